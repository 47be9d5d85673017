"""A long-running worker: waits for waiting trials of any study, and keeps processes on them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.engines.ending import conclude_if_over, end_run, requeue_dead
from lab.engines.launcher import Exited
from lab.engines.processes import ProcessLauncher
from lab.engines.seats import Seat, Seats, Sharing
from lab.engines.stores import Stores, connected
from lab.engines.waking import Leftovers, Sleep
from lab.errors import LabError
from lab.study import (
    Event,
    Studies,
    TrialEnded,
    TrialQueue,
    TrialStarted,
    WorkerDied,
    WorkerFailed,
    put_back_dead,
    reason,
)
from lab.tracking import RunStatus, Tracker, UnavailableError, prepare
from lab.tracking.tags import Tag
from lab.training import Outcome

__all__ = ["MOST_KILLED", "Served", "serve", "unbegun"]

MOST_KILLED = 10  # workers in a row that were killed before one of them began a trial: others would be too

_TICK = 0.5  # seconds between looks at the clock and at `should_stop`
_LOOK_SECONDS = 2.0  # between looks for waiting trials
_RESCUE_SECONDS = 15.0  # between looks for dead workers' trials
_PAUSE_SECONDS = 30.0  # before a study, or a store, that could not be worked with is tried again
_DELIVERY_SECONDS = 1.0  # for what this process itself has logged; workers deliver their own
_STOP_SECONDS = 8.0  # after which workers that were asked to stop are ended


@dataclass
class Served:
    """What came of a worker's work: trials that came to their `done` end and that `failed`, and studies that are
    `broken`: they could not be read, worked on or concluded."""

    done: int = 0
    failed: int = 0
    broken: set[str] = field(default_factory=set)

    @property
    def in_vain(self) -> bool:
        """Whether there was work, and all of it broke down."""
        return not self.done and bool(self.failed or self.broken)


def serve(
    stores: Stores,
    *,
    studies: Sequence[str] = (),
    workers: int | None = None,
    idle_exit: float | None = None,
    on_event: Callable[[TrialQueue, Event], None] = lambda queue, event: None,
    on_trouble: Callable[[str], None] = lambda message: None,
    on_delivered: Callable[[str], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Served:
    """Train what waits in the studies, and wait for more, until `should_stop` says so.

    A study whose needed studies are not done is left alone until they are. Trials of dead workers are queued
    again, here at once and elsewhere when their heartbeat has stopped; a study that is done gets its leaderboard.
    Studies that lab has not planned are left alone. One that is broken keeps no other from being trained.

    Args:
        stores: where studies and runs are kept.
        studies: names of the only studies to work on; all if empty.
        workers: processes to train with; by default what fits the cores (or one for each GPU).
        idle_exit: seconds after which to end when there was nothing to do; never if None.
        on_event: called with what workers tell, why one failed among it, and with the trials that were lost.
        on_trouble: called with what keeps a study from being worked on; it is tried again later.
        on_delivered: called, from a thread, with what was delivered of journals that dead processes had left.
        should_stop: asked twice a second; True lets running trials checkpoint and puts them back.

    Returns:
        What came of it.

    Raises:
        LabError: a store cannot be opened at the start, or refuses these credentials.
    """
    pool = ProcessLauncher()
    try:
        prepare(stores.tracking_uri)
    except UnavailableError as error:
        on_trouble(f"{error} What trials log is kept in {stores.journal_dir} until it answers")
    tracker = connected(stores)
    sharing = Sharing(pool.devices(), workers)
    service = _Service(
        stores,
        Studies(
            stores.storage, studies, should_stop, on_broken=lambda name, error: service.broke(name, error)
        ),
        tracker,
        pool,
        sharing,
        sharing.seats(),
        on_event,
        on_trouble,
    )
    leftovers = Leftovers(stores, on_delivered)
    try:
        service.run(idle_exit, should_stop)
    except BaseException:
        service.kill()
        raise
    finally:
        leftovers.close()
        tracker.flush(_DELIVERY_SECONDS)
    return service.served


@dataclass
class _Service:
    stores: Stores
    studies: Studies
    tracker: Tracker
    pool: ProcessLauncher
    sharing: Sharing
    seats: Seats
    on_event: Callable[[TrialQueue, Event], None]
    on_trouble: Callable[[str], None]
    busy: dict[int, TrialQueue] = field(default_factory=dict)  # by worker
    seated: dict[int, Seat] = field(default_factory=dict)  # by worker
    killed: int = 0  # workers, since the last that began a trial
    training: dict[int, TrialStarted] = field(default_factory=dict)  # by worker that has a trial
    failed: set[int] = field(default_factory=set)  # workers that could not go on
    paused: dict[str, float] = field(default_factory=dict)  # until when, by study
    told: dict[str, str] = field(default_factory=dict)  # what was said last of a study that is broken
    served: Served = field(default_factory=Served)
    worked: float = field(default_factory=time.monotonic)  # when a trial was in a worker's hands last
    looked: float = 0.0
    rescued: float = 0.0
    stopping: bool = False

    def run(self, idle_exit: float | None, should_stop: Callable[[], bool]) -> None:
        """Work until told to stop, or idle for long enough."""
        sleep = Sleep()
        while not should_stop():
            sleep.pass_over()
            now = time.monotonic()
            if now >= self.looked:
                self.looked = now + _LOOK_SECONDS
                self._look()
            if self.training:
                self.worked = time.monotonic()
            idle = time.monotonic() - self.worked
            if idle_exit is not None and idle >= idle_exit and not len(self.pool):
                return  # workers that only begin and break down are no work
            self._listen()
        self._stop()

    def kill(self) -> None:
        """End every worker at once and put their trials back."""
        self.pool.kill()
        for queue in {queue.name: queue for queue in self.busy.values()}.values():
            for trial in put_back_dead(queue):
                end_run(trial, queue, self.tracker, RunStatus.KILLED, {Tag.OUTCOME: "killed"})

    def broke(self, study: str, error: Exception) -> None:
        """Leave a study alone for a while, and say why unless that was said already."""
        self.served.broken.add(study)
        self.paused[study] = time.monotonic() + _PAUSE_SECONDS
        message = f"{study}: {reason(error)}. It is left alone for now; other studies go on"
        if self.told.get(study) != message:
            self.told[study] = message
            self.on_trouble(message)

    def _stop(self) -> None:
        self.stopping = True
        self.pool.stop()
        late = time.monotonic() + _STOP_SECONDS
        while len(self.pool) and time.monotonic() < late:
            self._listen()
        if len(self.pool):
            self.kill()

    def _look(self) -> None:
        """Queue again what dead workers had, conclude what is over, and put free workers on what waits."""
        try:
            if time.monotonic() >= self.rescued:
                self.rescued = time.monotonic() + _RESCUE_SECONDS
                self._rescue()
            for queue in self.studies.ready():
                if self._is_paused(queue):
                    continue
                for _ in range(self._unmanned(queue)):
                    seat = self.seats.take(self.sharing.shares())
                    if seat is None:
                        break
                    worker = self.pool.start(self.stores.for_worker(queue.name), seat)
                    self.busy[worker], self.seated[worker] = queue, seat
        except LabError as error:
            self.looked = time.monotonic() + _PAUSE_SECONDS
            self.on_trouble(str(error))

    def _rescue(self) -> None:
        for queue in self.studies.queues():
            if self._is_paused(queue):
                continue
            try:
                self._rescue_one(queue)
            except UnavailableError:  # of the store, and so of all studies
                raise
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others go on
                self.broke(queue.name, error)

    def _rescue_one(self, queue: TrialQueue) -> None:
        # one that is over may have lost its last trials, whose rescuer was killed
        if not queue.is_over() or not queue.record().concluded:
            requeue_dead(queue, self.tracker)
        result = conclude_if_over(queue, self.tracker)
        if result is not None and result.trouble and not result.waits:
            self.on_trouble(f"{queue.name}: it is done, without a leaderboard: {result.trouble}")

    def _is_paused(self, queue: TrialQueue) -> bool:
        return self.paused.get(queue.name, 0.0) > time.monotonic()

    def _unmanned(self, queue: TrialQueue) -> int:
        """Return how many trials wait for which no worker was started yet."""
        coming = sum(queue is other for worker, other in self.busy.items() if worker not in self.training)
        return max(0, queue.waiting() - coming)

    def _listen(self) -> None:
        for worker, event in self.pool.listen(_TICK):
            queue = self.busy[worker]
            if isinstance(event, Exited):
                self._ended(worker, event)
                continue
            if isinstance(event, TrialStarted):
                self.killed = 0
                self.training[worker] = event
                self.told.pop(queue.name, None)
            elif isinstance(event, TrialEnded):
                self.training.pop(worker, None)
                self.worked = time.monotonic()
                self._count(event)
            elif isinstance(event, WorkerFailed):
                self.failed.add(worker)
                self.served.broken.add(queue.name)
                self._pause(queue)
            self.on_event(queue, event)

    def _count(self, ended: TrialEnded) -> None:
        self.served.failed += ended.outcome == Outcome.FAILED
        self.served.done += ended.outcome not in (Outcome.FAILED, Outcome.KILLED)

    def _ended(self, worker: int, exited: Exited) -> None:
        self.seats.free(self.seated.pop(worker))
        self.killed += exited.code < 0
        hopeless = exited.code > 0 or self.killed >= MOST_KILLED
        queue = self.busy.pop(worker)
        trial = self.training.pop(worker, None)
        if trial is not None:
            why = "its worker could not go on" if worker in self.failed else _in_words(exited.code)
            self.on_event(queue, WorkerDied(trial.number, trial.label, why))
        elif hopeless and not self.stopping:
            self._pause(queue)
            self.served.broken.add(queue.name)
            self.on_trouble(f"{queue.name}: A worker {unbegun(exited)}")
        self.failed.discard(worker)
        self.looked = self.rescued = 0.0  # at once: its trial, if it died over one, or the end of the study

    def _pause(self, queue: TrialQueue) -> None:
        self.paused[queue.name] = time.monotonic() + _PAUSE_SECONDS


def _in_words(code: int) -> str:
    if -code in set(signal.Signals):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def unbegun(exited: Exited) -> str:
    """Return how a worker ended that had begun no trial."""
    said = f": {exited.error}" if exited.error else "; if it said why, that stands above"
    return f"ended with exit code {exited.code} before it began a trial{said}"
