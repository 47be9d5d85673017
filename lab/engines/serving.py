"""A long-running service of workers: it trains what waits in any study, and waits for more."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.engines.ending import conclude_if_over, end_deleted
from lab.engines.engine_notes import EngineNotes, telling
from lab.engines.launcher import Launcher
from lab.engines.notices import Notices, check_notify
from lab.engines.processes import ProcessLauncher
from lab.engines.seats import Sharing
from lab.engines.setbacks import Setbacks
from lab.engines.stores import Stores, connected
from lab.engines.supervisor import PAUSE_SECONDS, Supervisor
from lab.engines.waking import Leftovers
from lab.errors import LabError
from lab.study import (
    EpochEnded,
    Event,
    Studies,
    TrialEnded,
    TrialQueue,
    TrialStarted,
    WorkerDied,
    WorkerFailed,
    reason,
)
from lab.tracking import Tracker, UnavailableError, prepare
from lab.training import Outcome
from lab.wording import counted

__all__ = ["Served", "serve"]

_DELIVERY_SECONDS = 1.0  # for what this process itself has logged; workers deliver their own
_STOP_SECONDS = 8.0  # after which workers that were asked to stop are killed
_STOP_SECONDS_ELSEWHERE = 60.0  # a cluster takes its time to pass a signal on, and to say what came of it


@dataclass
class Served:
    """What came of a service: trials `done` and `failed`, and studies that are `broken`: they could not be read,
    worked on or concluded."""

    done: int = 0
    failed: int = 0
    broken: set[str] = field(default_factory=set)

    @property
    def in_vain(self) -> bool:
        """Whether there was work, and all of it failed."""
        return not self.done and bool(self.failed or self.broken)


def serve(
    stores: Stores,
    *,
    studies: Sequence[str] = (),
    workers: int | None = None,
    workers_per_gpu: int | None = None,
    gpu_memory: int | None = None,
    launcher: Launcher | None = None,
    elsewhere: bool = False,
    idle_exit: float | None = None,
    on_event: Callable[[TrialQueue, Event], None] = lambda queue, event: None,
    on_trouble: Callable[[str], None] = lambda message: None,
    on_delivered: Callable[[str], None] = lambda message: None,
    on_note: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Served:
    """Train what waits in the studies, and wait for more, until `should_stop` returns True.

    A study starts when the studies that it needs are over. Trials of dead workers are requeued, here at once and
    elsewhere when their heartbeat has stopped; a study that is over gets its leaderboard. Studies that lab has not
    planned are left alone. A broken one does not keep the others from being trained.

    Args:
        stores: where studies and runs are kept.
        studies: names of the only studies to work on; all if empty.
        workers: maximum number of workers; by default one per GPU, or per core of a machine without GPUs.
        workers_per_gpu: how many workers share a GPU.
        gpu_memory: bytes of GPU memory that one trial needs, to count `workers_per_gpu`; by default each grid file's.
        launcher: what starts the workers; processes of this machine by default.
        elsewhere: whether they run on other machines: they have a minute to stop then, instead of eight seconds.
        idle_exit: seconds without work after which to return; never if None.
        on_event: called with what happens to trials and workers.
        on_trouble: called with what keeps a study from being worked on; it is tried again later.
        on_delivered: called, from a thread, with what was delivered of journals that dead processes had left.
        on_note: called with a line that the engine says about its workers, when it says something new.
        should_stop: asked twice a second; True lets running trials checkpoint and returns them to the queue.

    Returns:
        What came of it.

    Raises:
        ConfigError: a number of workers is below 1, both `workers_per_gpu` and `gpu_memory` are given, or `LAB_NOTIFY`
            holds no address.
        LabError: a store cannot be opened at the start, or refuses these credentials.
    """
    launcher = ProcessLauncher() if launcher is None else launcher
    sharing = Sharing(launcher.devices(), workers, workers_per_gpu, gpu_memory)
    check_notify(())
    tracker = _connect(stores, on_trouble)
    # studies of others must not have this machine read files and send what they name
    notices = Notices(tracker, stores.tracking_uri, None if stores.allow_code else {}, on_trouble)
    policy = _UntilIdle(
        tracker, notices, idle_exit, on_event, on_trouble, should_stop, elsewhere=elsewhere, rivals=studies
    )
    policy.watch(Studies(stores.storage, studies, should_stop, policy.broke))
    with notices, _delivering(stores, tracker, on_delivered), telling() as noted:
        policy.pass_on(_Said(launcher, noted, on_note))
        Supervisor(launcher, sharing, stores, tracker, policy).run()
    return policy.served


def _connect(stores: Stores, on_trouble: Callable[[str], None]) -> Tracker:
    try:
        prepare(stores.tracking_uri)
    except UnavailableError as error:
        on_trouble(f"{error} What trials log is kept in {stores.journal_dir} until it answers")
    return connected(stores)


@contextmanager
def _delivering(stores: Stores, tracker: Tracker, on_delivered: Callable[[str], None]) -> Iterator[None]:
    """Deliver what dead processes have left, and at the end of the block what this one has logged."""
    leftovers = Leftovers(stores, on_delivered)
    try:
        yield
    finally:
        leftovers.close()
        tracker.flush(_DELIVERY_SECONDS)


class _UntilIdle:
    """The policy of a service: all studies, until it is idle or told to stop; a failure pauses its study."""

    def __init__(
        self,
        tracker: Tracker,
        notices: Notices,
        idle_exit: float | None,
        on_event: Callable[[TrialQueue, Event], None],
        on_trouble: Callable[[str], None],
        should_stop: Callable[[], bool],
        *,
        elsewhere: bool,
        rivals: Sequence[str],
    ) -> None:
        self.stop_seconds = _STOP_SECONDS_ELSEWHERE if elsewhere else _STOP_SECONDS
        self.rivals: Sequence[str] | None = rivals
        self.served = Served()
        self.should_stop = should_stop
        self._tracker = tracker
        self._notices = notices
        self._idle_exit = math.inf if idle_exit is None else idle_exit
        self._on_event = on_event
        self._on_trouble = on_trouble
        self._paused: dict[str, float] = {}  # until when, by study
        self._told: dict[str, str] = {}  # what was said last of a study that is broken
        self._worked = time.monotonic()  # when a trial was last in a worker's hands
        self._setbacks = defaultdict[str, Setbacks](lambda: Setbacks(1))  # by study
        self._unconcluded: dict[int, str] = {}  # run ids of studies that are not concluded, by study id
        self._ready: list[TrialQueue] = []
        self._training: dict[int, TrialQueue] = {}  # by worker

    def watch(self, studies: Studies) -> None:
        """Look after these studies."""
        self._studies = studies

    def pass_on(self, said: _Said) -> None:
        """Pass on what the launcher says."""
        self._said = said

    def studies(self) -> list[TrialQueue]:
        """Return the studies that are not paused; end the runs of those that another program has deleted."""
        queues = self._studies.queues()
        for deleted in self._unconcluded.keys() - {queue.study_id for queue in queues}:
            end_deleted(self._unconcluded[deleted], self._tracker)
            del self._unconcluded[deleted]
        return [queue for queue in queues if not self._is_paused(queue)]

    def ready(self) -> list[TrialQueue]:
        """Return those of them with waiting trials that may start now."""
        self._ready = list(self._studies.ready())
        return [queue for queue in self._ready if not self._is_paused(queue)]

    def is_over(self) -> bool:
        """Return whether there was no work for long enough; workers that only start and fail are none."""
        return time.monotonic() - self._worked >= self._idle_exit

    def settle(self, queue: TrialQueue) -> None:
        """Conclude a study that is over."""
        result = conclude_if_over(queue, self._tracker)
        record = queue.record()
        if record.concluded:
            self._unconcluded.pop(queue.study_id, None)
        else:
            self._unconcluded[queue.study_id] = record.run_id
        if result is None:
            return
        self._notices.hear(queue)
        if result.ending == "too_many_failures":
            failed = counted(result.failed, "cell has failed", "cells have failed")
            self._on_trouble(
                f"{queue.name}: {failed}, so no more start (max_failures): lab resume {queue.name}"
            )
        if result.trouble and not result.waits:
            self._on_trouble(f"{queue.name}: it is over, without a leaderboard: {result.trouble}")

    def hear(self, queue: TrialQueue, worker: int | None, event: Event) -> None:
        """Count what has happened, pause a study whose worker could not go on, and pass it on."""
        if isinstance(event, TrialStarted | TrialEnded | WorkerDied):
            self._worked = time.monotonic()
        if not isinstance(event, EpochEnded):
            self._notices.hear(queue)
        if worker is not None and isinstance(event, TrialEnded | WorkerDied):
            self._training.pop(worker, None)
        if isinstance(event, TrialStarted):
            self._told.pop(queue.name, None)
            if worker is not None:
                self._training[worker] = queue
        elif isinstance(event, TrialEnded):
            self.served.failed += event.outcome == Outcome.FAILED
            self.served.done += event.outcome not in (Outcome.FAILED, Outcome.KILLED)
        elif isinstance(event, WorkerFailed):
            self._pause(queue.name)
            self._setbacks[queue.name].add(LabError(event.error), others_train=True)
            if not self._is_news(queue.name, event.error):
                return
        self._on_event(queue, event)

    def fail(self, queue: TrialQueue | None, error: Exception) -> None:
        """Say why; pause the study if it is one's."""
        if queue is None:
            self._on_trouble(str(error))
        else:
            self.broke(queue.name, error)

    def broke(self, study: str, error: Exception) -> None:
        """Leave a study alone for a while, and say why unless that was said already."""
        self._pause(study)
        said = str(error).partition("\n")[0] if isinstance(error, LabError) else reason(error)
        message = f"{study}: {said}. It is tried again later; other studies continue"
        if self._is_news(study, message):
            self._on_trouble(message)

    def tick(self) -> None:
        """Pass on what the launcher says, also to the studies that its workers train or that wait for these."""
        queues = {queue.name: queue for queue in (*self._ready, *self._training.values())}
        self._said((queue, self._setbacks[name].notes) for name, queue in queues.items())
        self._notices.pass_on()

    def _is_news(self, study: str, message: str) -> bool:
        """Return whether this was not what was said last of a study that is broken, and note it."""
        before, self._told[study] = self._told.get(study), message
        return before != message

    def _pause(self, study: str) -> None:
        self.served.broken.add(study)
        self._paused[study] = time.monotonic() + PAUSE_SECONDS

    def _is_paused(self, queue: TrialQueue) -> bool:
        return self._paused.get(queue.name, 0.0) > time.monotonic()


class _Said:
    """Passes on what a launcher says, to whoever listens to this process and to the studies that it has to do with."""

    def __init__(self, launcher: Launcher, noted: EngineNotes, on_note: Callable[[str], None]) -> None:
        self._launcher = launcher
        self._noted = noted
        self._on_note = on_note
        self._before: set[str] = set()

    def __call__(self, studies: Iterable[tuple[TrialQueue, Sequence[str]]]) -> None:
        """Pass it on, with more lines for each study."""
        lines = list(self._launcher.notes())
        for line in lines:
            if line not in self._before:
                self._on_note(line)
        self._before = set(lines)
        self._noted.tell((queue, [*lines, *more]) for queue, more in studies)
