"""The one loop that keeps workers on studies, for a sweep of one study and for a service of them all."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from lab.engines.devices import Device
from lab.engines.ending import Gone, end_run, requeue_dead
from lab.engines.launcher import Exited, Launcher
from lab.engines.seats import Seat, Sharing
from lab.engines.stores import Stores
from lab.engines.waking import Sleep
from lab.errors import LabError, StudyError
from lab.identity import process_name
from lab.study import (
    DatabaseError,
    EpochEnded,
    Event,
    TrialEnded,
    TrialQueue,
    TrialStarted,
    WorkerDied,
    WorkerFailed,
    put_back_dead,
)
from lab.tracking import RunStatus, Tracker, UnavailableError, release_journals
from lab.tracking.tags import Tag
from lab.training import Outcome

__all__ = ["PAUSE_SECONDS", "Policy", "Supervisor"]

PAUSE_SECONDS = 30.0  # before a study, or a store, that could not be worked with is tried again
_TICK = 0.5  # seconds between looks at the clock and at `should_stop`
_LOOK_SECONDS = 2.0  # between looks for waiting trials
_RESCUE_SECONDS = 15.0  # between looks for dead workers' trials
_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # before another worker, when the last ones have trained nothing
_ASK_SECONDS = 60.0  # for an engine that does not answer to hear that its workers are to stop
_MOST_KILLED = 10  # workers of a study killed in a row before one began a trial: others would be, too


class Policy(Protocol):
    """What supervisors differ in: which studies they look after, until when, and what a failure means.

    Attributes:
        stop_seconds: how long workers that were asked to stop may take; then they are killed.
        rivals: see `WorkerSettings`.
    """

    stop_seconds: float
    rivals: Sequence[str] | None

    def should_stop(self) -> bool:
        """Return whether workers are to stop, and the loop with them; asked twice a second."""

    def studies(self) -> Iterable[TrialQueue]:
        """Return the studies to look after.

        Raises:
            LabError: they cannot be read.
        """

    def ready(self) -> Iterable[TrialQueue]:
        """Return those of them with waiting trials that may start now; raises like `studies`."""

    def is_over(self) -> bool:
        """Return whether nothing is left to do; asked when there is no worker."""

    def settle(self, queue: TrialQueue) -> None:
        """Do what is due for a study besides training: asked regularly, and when a worker of it has exited."""

    def hear(self, queue: TrialQueue, worker: int | None, event: Event) -> None:
        """Take in what has happened in a study; `worker` is None for what no worker of this supervisor has told."""

    def fail(self, queue: TrialQueue | None, error: Exception) -> None:
        """Take in why a study cannot be worked on; why none can, if `queue` is None: a store or an engine fails."""

    def tick(self) -> None:
        """Take in that time has passed; called twice a second."""


@dataclass
class _Worker:
    """A living worker.

    `whole` if it was given a GPU for trials that ran out of memory; `stopped` if it was asked to make room for those,
    or because nothing waits for it. `useful` once it has trained something.
    """

    queue: TrialQueue
    seat: Seat
    whole: bool = False
    stopped: bool = False
    failed: bool = False
    useful: bool = False
    trial: TrialStarted | None = None
    process: str = ""  # its name, once it has begun a trial

    def take(self, event: Event) -> None:
        """Take in what it has said."""
        if isinstance(event, TrialStarted):
            self.trial = event
            # threads of this process share its name: others of them go on when one has ended
            self.process = "" if event.worker == process_name() else event.worker
        elif isinstance(event, EpochEnded):
            self.useful = True
        elif isinstance(event, TrialEnded):
            self.trial = None
            self.useful = self.useful or event.outcome != Outcome.KILLED
        elif isinstance(event, WorkerFailed):
            self.failed = True

    def is_coming(self, queue: TrialQueue) -> bool:
        """Return whether it is about to claim any of a study's trials."""
        return self.queue.study_id == queue.study_id and not (self.trial or self.whole or self.stopped)


class Supervisor:
    """Keeps workers on studies: one on each seat, as long as a trial waits for it.

    Trials of dead workers are requeued: at once if they ran here or the launcher says that they have exited, otherwise
    when their heartbeat has stopped. A trial that ran out of memory on a shared GPU gets one to itself: the workers
    there stop, and others start when it has ended. Workers that wait for a place are stopped when no trial waits.

    Args:
        launcher: starts the workers.
        sharing: how they share its devices.
        stores: that they are given.
        tracker: connected to these stores.
        policy: which studies, until when, and what a failure means.
    """

    def __init__(
        self, launcher: Launcher, sharing: Sharing, stores: Stores, tracker: Tracker, policy: Policy
    ) -> None:
        self._launcher = launcher
        self._sharing = sharing
        self._seats = sharing.seats()
        self._stores = stores
        self._tracker = tracker
        self._policy = policy
        self._sleep = Sleep()
        self._workers: dict[int, _Worker] = {}  # by number
        self._staffed: dict[str, TrialQueue] = {}  # the studies that have had a worker
        self._due: set[str] = set()  # those to look after at once
        self._gone: dict[
            str, Gone
        ] = {}  # workers of a study that have exited, until their trials are requeued
        self._killed = Counter[str]()  # workers of a study since one of them last began a trial
        self._useless = Counter[str]()  # workers of a study since one of them last trained something
        self._rests: dict[str, float] = {}  # until when no other is started, by study
        self._emptied: Device | None = None  # a GPU that is kept free until one worker can have all of it
        self._stopping = False
        self._told = ("", 0.0)  # what was said last of the engine and the stores, and when
        self._looked = self._rescued = 0.0  # when it is time to do so again

    def run(self) -> None:
        """Supervise until the policy says that it is over, or that everything is to stop.

        No worker is left when this returns or raises, and what they had is back in the queue.
        """
        try:
            while not self._policy.should_stop():
                self._sleep.pass_over()
                if self._look():
                    return
                self._listen()
            self._stop()
        except BaseException:  # a second Ctrl-C, or an error in a callback: leave no worker behind
            self._kill()
            raise

    def _look(self) -> bool:
        """Look after the studies if it is time to, and put workers on what waits; return whether it is over."""
        if time.monotonic() < self._looked:
            return False
        self._looked = time.monotonic() + _LOOK_SECONDS
        try:
            self._rescue()
            self._withdraw()
            self._staff()
            return not self._workers and self._policy.is_over()
        except LabError as error:
            self._pause(error)
            return False

    def _pause(self, error: LabError) -> None:
        """Leave a store or an engine that fails alone for a while, and say why unless that was just said."""
        self._looked = time.monotonic() + PAUSE_SECONDS
        said, when = self._told
        if str(error) != said or time.monotonic() >= when + PAUSE_SECONDS:
            self._told = (str(error), time.monotonic())
            self._policy.fail(None, error)

    def _rescue(self) -> None:
        """Requeue what dead workers had: in studies whose worker has just exited, and regularly in all."""
        regularly = time.monotonic() >= self._rescued
        if regularly:
            self._rescued = time.monotonic() + _RESCUE_SECONDS
        elif not self._due:
            return
        for queue in self._policy.studies():
            if not regularly and queue.name not in self._due:
                continue
            try:
                self._rescue_one(queue)
            except (DatabaseError, UnavailableError):  # and so for all studies
                raise
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others go on
                self._policy.fail(queue, error)

    def _rescue_one(self, queue: TrialQueue) -> None:
        # one that is over may lack its last trials, if the process that failed them was killed
        if not queue.is_over() or not queue.record().concluded:
            self._requeue_dead(queue)
        # a worker killed before it said whose its trial was is looked for again: only time tells that it is dead
        if queue.name in self._due and not queue.is_disowned():
            self._due.discard(queue.name)
        self._policy.settle(queue)

    def _requeue_dead(self, queue: TrialQueue) -> None:
        gone = self._gone.get(queue.name)
        if gone is not None:  # before anybody can continue these trials, so that their last writes come along
            release_journals(self._stores.journal_dir, gone.blamed | gone.blameless)
        # of a living worker whose process is seen dead the launcher will say why, and whether its trial is to blame
        spared = self._processes()
        for given_up in requeue_dead(queue, self._tracker, gone, spared):
            self._policy.hear(queue, None, given_up)
        self._gone.pop(queue.name, None)

    def _withdraw(self) -> None:
        """Stop workers that still wait for a place, the newest first, if they are more than trials wait."""
        placing: dict[tuple[str, bool], list[int]] = {}
        for number in sorted(self._launcher.pending(), reverse=True):
            worker = self._workers.get(number)
            if worker is not None and not worker.stopped:
                placing.setdefault((worker.queue.name, worker.whole), []).append(number)
        ready = {queue.name: queue for queue in self._policy.ready()} if placing else {}
        for (name, whole), numbers in placing.items():
            queue = ready.get(name)
            wanted = 0 if queue is None else queue.waiting_alone() if whole else queue.waiting()
            for number in numbers[: max(0, len(numbers) - wanted)]:
                self._launcher.stop(number)
                self._workers[number].stopped = True

    def _staff(self) -> None:
        """Start workers for what waits, as far as there are seats."""
        if self._seats.are_full and not any(worker.seat.is_shared for worker in self._workers.values()):
            return
        alone = False
        for queue in self._policy.ready():
            try:
                shares = self._sharing.shares(queue.record().gpu_memory)
            except DatabaseError:
                raise
            except LabError as error:
                self._policy.fail(queue, error)
                continue
            shared = any(Seat(device, share).is_shared for device, share in shares.items())
            waiting_alone = queue.waiting_alone() if shared else 0
            if waiting_alone:
                alone = True
                self._staff_alone(queue)
            if self._is_resting(queue):
                continue
            coming = sum(worker.is_coming(queue) for worker in self._workers.values())
            for _ in range(queue.waiting() - waiting_alone - coming):
                if not self._start(queue, shares):
                    break
        if not alone:  # another machine has taken it
            self._emptied = None

    def _staff_alone(self, queue: TrialQueue) -> None:
        """Put a worker with a GPU to itself on trials that ran out of memory; empty a GPU first if none is free."""
        if any(worker.whole for worker in self._workers.values()) or self._is_resting(queue):
            return
        if self._start(queue, self._sharing.whole(), whole=True):
            self._emptied = None
        elif self._emptied is None:
            emptied = max(self._sharing.whole(), key=self._seats.room)
            for number, worker in self._workers.items():
                if worker.seat.device == emptied:
                    self._launcher.stop(number)
                    worker.stopped = True
            self._emptied = emptied

    def _start(self, queue: TrialQueue, shares: Mapping[Device, Fraction], *, whole: bool = False) -> bool:
        """Start a worker; return False if there is no seat for it."""
        kept = None if whole else self._emptied
        seat = self._seats.take({device: share for device, share in shares.items() if device != kept})
        if seat is None:
            return False
        settings = self._stores.for_worker(queue.name, alone=not seat.is_shared, only_alone=whole)
        settings = replace(settings, rivals=self._policy.rivals)
        try:
            number = self._launcher.start(settings, seat)
        except BaseException:
            self._seats.free(seat)
            raise
        self._workers[number] = _Worker(queue, seat, whole)
        self._staffed[queue.name] = queue
        return True

    def _listen(self) -> None:
        heard: list[tuple[int, Event | Exited]] = []
        try:
            heard.extend(self._launcher.listen(_TICK))
        except LabError as error:  # what came before it counts
            self._pause(error)
            time.sleep(_TICK)
        for number, event in heard:
            if isinstance(event, Exited):
                self._exited(number, event)
            elif isinstance(event, WorkerDied):
                self._restarted(number, event)
            else:
                self._hear(number, event)
        self._policy.tick()

    def _hear(self, number: int, event: Event) -> None:
        worker = self._workers[number]
        worker.take(event)
        if isinstance(event, TrialStarted):
            self._killed.pop(worker.queue.name, None)
        elif isinstance(event, TrialEnded) and event.outcome == Outcome.KILLED and worker.seat.is_shared:
            self._looked = 0.0  # at once: it may wait for a GPU to itself
        if worker.useful:
            self._useless.pop(worker.queue.name, None)
            self._rests.pop(worker.queue.name, None)
        self._policy.hear(worker.queue, number, event)

    def _exited(self, number: int, exited: Exited) -> None:
        worker = self._workers.pop(number)
        self._seats.free(worker.seat)
        self._take_away(number, worker, exited)
        asked = worker.stopped or self._stopping
        if not asked and not worker.useful and (exited.blameless or not exited.code):
            self._rest(worker.queue)

    def _restarted(self, number: int, died: WorkerDied) -> None:
        """Take in that a worker has died, and that its engine has started it again under the same number."""
        worker = self._workers[number]
        self._take_away(number, worker, Exited(-signal.SIGKILL, died.why, died.blameless))
        worker.trial, worker.process = None, ""

    def _take_away(self, number: int, worker: _Worker, exited: Exited) -> None:
        """Have what a worker had requeued, and say so; or say why it began no trial."""
        name = worker.queue.name
        self._looked = 0.0  # at once: another trial may wait, or the study be over
        self._due.add(name)
        if exited.code or exited.blameless or worker.trial is not None:
            self._gone.setdefault(name, Gone()).add(worker.process, exited)
        if worker.trial is not None:
            why = "its worker could not continue" if worker.failed else exited.error or _how(exited.code)
            died = WorkerDied(worker.trial.number, worker.trial.label, why, exited.blameless)
            self._policy.hear(worker.queue, number, died)
        elif not (worker.stopped or self._stopping or exited.blameless):
            self._killed[name] += exited.code < 0
            if exited.code > 0 or self._killed[name] >= _MOST_KILLED:
                self._policy.fail(worker.queue, StudyError(_unbegun(exited)))

    def _rest(self, queue: TrialQueue) -> None:
        """Start no other worker for a while: longer, the more in a row were taken away or found nothing to train."""
        pause = min(_FIRST_REST * 2 ** min(self._useless[queue.name], 9), _LONGEST_REST)
        self._useless[queue.name] += 1
        self._rests[queue.name] = time.monotonic() + pause

    def _is_resting(self, queue: TrialQueue) -> bool:
        return time.monotonic() < self._rests.get(queue.name, 0.0)

    def _processes(self) -> set[str]:
        """Return the names of living workers' processes, as far as they are known."""
        return {worker.process for worker in self._workers.values()} - {""}

    def _stop(self) -> None:
        """Let workers checkpoint and return their trials to the queue; kill those that take too long."""
        self._stopping = True
        late = time.monotonic() + self._policy.stop_seconds
        if self._ask_to_stop(min(late, time.monotonic() + _ASK_SECONDS)):
            while self._workers and time.monotonic() < late:
                self._listen()
        if self._workers:
            self._kill()
        for name in list(self._gone):
            queue = self._staffed[name]
            try:
                self._requeue_dead(queue)
            except Exception as error:  # noqa: BLE001  # others find the trial
                self._policy.fail(queue, error)

    def _ask_to_stop(self, late: float) -> bool:
        """Ask all workers to stop; return False if their engine does not answer until `late`."""
        while True:
            try:
                self._launcher.stop()
            except LabError as error:
                self._pause(error)
            else:
                return True
            if time.monotonic() >= late:
                return False
            self._listen()

    def _kill(self) -> None:
        """End every worker at once, and return their trials to the queue, wherever they ran."""
        self._launcher.kill()
        gone = self._processes()
        self._workers.clear()
        release_journals(self._stores.journal_dir, gone)
        for queue in self._staffed.values():
            try:
                for record in put_back_dead(queue, gone):
                    end_run(record, queue, self._tracker, RunStatus.KILLED, {Tag.OUTCOME: Outcome.KILLED})
            except Exception as error:  # noqa: BLE001  # it may have been deleted; those of other studies are put back
                self._policy.fail(queue, error)


def _how(code: int) -> str:
    if -code in set(signal.Signals):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _unbegun(exited: Exited) -> str:
    if exited.error:
        return f"A worker could not begin a trial: {exited.error}"
    return (
        f"A worker ended with exit code {exited.code} before it began a trial; if it said why, that is above"
    )
