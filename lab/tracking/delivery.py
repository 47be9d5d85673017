"""Puts what a journal holds through to the store, in order, and without doing anything twice.

A run says itself, by a tag, who opened it last. Of an attempt that has lost its trial nothing leaves the journal any
more but points that nobody has: while the run goes on elsewhere, whoever trains it there logs all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab.errors import ResourceError, TrackingError
from lab.hold import Hold, Lost, Stopwatch
from lab.tracking.base import (
    DeniedError,
    Left,
    RunStatus,
    Tracker,
    UnavailableError,
    pending_id,
    pending_key,
)
from lab.tracking.journal import Lock, Operation, Refused, RunJournal, journals, left, stores_left
from lab.tracking.run import Run
from lab.tracking.tags import Tag
from lab.tracking.writes import Dataset, Metrics, Open, Write, merged

__all__ = [
    "Delivered",
    "Delivery",
    "RefusedError",
    "deliver",
    "experiment_name",
    "pending_experiment",
    "run_in_store",
]

_FREE = Hold()  # of a journal that no living attempt is at
_SURE_SECONDS = 15.0  # after which somebody else may have opened the run: who has it is asked again
_PENDING_EXPERIMENT = "pending-experiment:"


class RefusedError(TrackingError):
    """The store will never take the operation with this `number`."""

    def __init__(self, reason: str, number: int) -> None:
        super().__init__(reason)
        self.number = number


@dataclass
class Delivered:
    """What one look at all journals of a store did, and what is left of them."""

    writes: int = 0
    runs: int = 0
    away: str = ""  # why the rest could not be delivered now
    left: Left = field(default_factory=Left)
    refused: list[Refused] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # other stores that something is left for

    @property
    def delivered(self) -> str:
        """What was delivered, in words."""
        return str(Left(self.writes, self.runs))


def pending_experiment(name: str) -> str:
    """Return what stands for the id of an experiment while the store cannot be asked for it."""
    return _PENDING_EXPERIMENT + name


def experiment_name(identity: str) -> str | None:
    """Return the name of an experiment whose id is still to be asked for, None if `identity` is one."""
    return identity.removeprefix(_PENDING_EXPERIMENT) if identity.startswith(_PENDING_EXPERIMENT) else None


def run_in_store(tracker: Tracker, run_id: str) -> str | None:
    """Return the store's own id of a run, None where a pending one is not there."""
    key = pending_key(run_id)
    if key is None:
        return run_id
    return next(iter(tracker.find_runs(None, {Tag.JOURNAL: key})), None)


class Delivery:
    """Delivers the journal of one run.

    Args:
        journal: of the run.
        tracker: the store.
        fresh: whether this process has just created the journal, so that the store can have nothing of it.
    """

    def __init__(self, journal: RunJournal, tracker: Tracker, *, fresh: bool = False) -> None:
        self.run: Run | None = None
        self._journal = journal
        self._tracker = tracker
        self._fresh = fresh  # no try has been made yet
        self.holds: dict[str, Hold] = {}  # on the trial, by attempt
        self._told = Stopwatch()  # since the store last answered
        self._unsure = False  # somebody else may have opened the run since it was last written to
        self._attempt = journal.fact("attempt") or ""  # whose operations come next
        self._taken_over = False

    def step(self) -> int:
        """Deliver the next operations; return how many, 0 where nothing waits.

        Raises:
            UnavailableError: the store is away; the same call may pass later.
            RefusedError: the store will never take one of them; it is kept, with the reason.
        """
        if self._journal.is_blocked():
            return 0
        operations = self._journal.take()
        if not operations:
            return 0
        try:
            self._put_fenced(operations)
        except UnavailableError:
            self._journal.release()
            self._unsure = True
            raise
        except TrackingError as error:
            if len(operations) > 1:
                return self._step_alone(operations)
            self._journal.refuse(operations[0], str(error))
            raise RefusedError(str(error), operations[0].id) from None
        except BaseException:
            self._journal.release()
            raise
        self._journal.done(operations)
        return len(operations)

    def _step_alone(self, operations: Sequence[Operation]) -> int:
        """Deliver one by one what was refused together; one of them is to blame."""
        refused: RefusedError | None = None
        for operation in operations:
            try:
                self._put_fenced([operation])
            except UnavailableError:
                self._journal.release()
                self._unsure = True
                raise
            except TrackingError as error:
                self._journal.refuse(operation, str(error))
                refused = RefusedError(str(error), operation.id)
            else:
                self._journal.done([operation])
        if refused is not None:
            raise refused
        return len(operations)

    def _put_fenced(self, operations: Sequence[Operation]) -> None:
        """Deliver writes of one type if the trial is still held; else only metric values that nobody has."""
        write = merged([operation.write for operation in operations])
        if isinstance(write, Open):
            self._attempt, self._taken_over = write.tags.get(Tag.ATTEMPT, ""), False
        try:
            if not self._is_lost():
                self._put_held(write)
        except Lost:
            self._journal.note("lost", self._attempt)
        if self._is_lost() and isinstance(write, Open):
            self._journal.note("attempt", self._attempt)
        elif self._is_lost() and isinstance(write, Metrics):
            self._put_missing(write)
        self._told.restart()

    def _put_held(self, write: Write) -> None:
        hold = self.holds.get(self._attempt, _FREE)
        hold.confirm(anew=True)
        self._unsure = self._unsure or not hold.is_certain or self._told.seconds > _SURE_SECONDS
        if isinstance(write, Open):
            self._open(write, hold)
        else:
            self._put(write)

    def _is_lost(self) -> bool:
        return self._taken_over or self._journal.fact("lost") == self._attempt

    def _put(self, write: Write) -> None:
        run = self._opened()
        if self._taken_over:
            return  # the worker that has the run now decides what it says
        try:
            run.write(write.resolved(self._find))
        except DeniedError:
            if not write.is_optional:
                raise

    def _find(self, run_id: str) -> str | None:
        return run_in_store(self._tracker, run_id)

    def _open(self, write: Open, hold: Hold) -> None:
        """Open the run; one whose creation was not acknowledged is found by its tag."""
        target = write.run_id
        pending = None if target is None else pending_key(target)
        experiment = self._experiment(write.experiment)
        if target is None or pending is not None:
            tried, self._fresh = pending is not None or not self._fresh, False
            key = pending or self._journal.key
            found = self._tracker.find_runs(experiment or None, {Tag.JOURNAL: key}) if tried else []
            target = found[0] if found else None
        if target is not None:
            latest = self._tracker.tags(target).get(Tag.ATTEMPT, "") if self._late() else ""
            if latest > self._attempt:  # they begin with the time
                self._journal.note("run_id", target)
                self._taken_over, self.run = True, self._tracker.attach(target)
                return
        write = write.resolved(self._find)
        self.run = self._tracker.open_run(
            name=write.name,
            experiment=experiment,
            tags=dict(write.tags),
            parent_run_id=write.parent_run_id,
            run_id=target,
            timestamp=write.timestamp,
            hold=None if hold is _FREE else hold,
        )
        self._unsure = False
        self._journal.note("run_id", self.run.run_id)
        self._journal.note("attempt", self._attempt)

    def _late(self) -> bool:
        """Whether the run may have been opened elsewhere since this was logged."""
        late, self._fresh = self._unsure or not self._fresh, False
        return late

    def _experiment(self, identity: str) -> str:
        name = experiment_name(identity)
        return identity if name is None else self._tracker.experiment(name)

    def _opened(self) -> Run:
        """Return the run; look first who has it now, if that may have changed."""
        if self.run is not None and not self._unsure:
            return self.run
        run_id = self._journal.fact("run_id") or ""
        if pending_key(run_id) is not None:
            known = run_in_store(self._tracker, run_id)
            if known is None:
                raise TrackingError(f"There is no run {run_id} at {self._tracker.uri}")
            run_id = known
            self._journal.note("run_id", run_id)
        attempt = self._journal.fact("attempt")
        if attempt is not None:
            self._taken_over = self._tracker.tags(run_id).get(Tag.ATTEMPT, attempt) != attempt
        if self.run is None:
            self.run = self._tracker.attach(run_id)
            self._remind(self.run)
        self._unsure = False
        return self.run

    def _remind(self, run: Run) -> None:
        """Tell a run what a model will be linked to, if that was delivered by another process."""
        if self._taken_over:
            return
        for dataset in self._journal.delivered(Dataset):
            run.write(dataset)
        facts = [each for one in self._journal.delivered(Metrics) for each in one.metrics if each.step == 0]
        run.write(Metrics(facts, only_missing=True))

    def _put_missing(self, write: Metrics) -> None:
        """Deliver the values of a lost attempt that a run which has ended elsewhere has not."""
        run_id = self._journal.known_id or run_in_store(self._tracker, pending_id(self._journal.key))
        if run_id is None or self._tracker.status(run_id) is RunStatus.RUNNING:
            return
        self._journal.note("run_id", run_id)
        self._tracker.attach(run_id).write(replace(write, only_missing=True))


def deliver(tracker: Tracker, folder: Path, *, retry_refused: bool = False) -> Delivered:
    """Deliver what is left in the journals of a store, but for those that a living process has in its hands.

    Args:
        tracker: the store.
        folder: of all journals.
        retry_refused: whether to try again what was refused before.

    Raises:
        ResourceError: a journal cannot be written.
    """
    result = Delivered()
    for path in journals(folder):
        lock = Lock.take(path)
        if lock is None:
            continue
        try:
            journal = RunJournal(path, lock)
        except ResourceError as error:  # damaged; it must not keep the others from being delivered
            lock.release()
            result.refused.append(Refused(path.name, 0, str(error), path))
            continue
        try:
            if journal.fact("store") == tracker.uri:
                _deliver_one(journal, tracker, result, retry_refused)
        finally:
            journal.close()
        if result.away:
            break
    result.left = left(folder, tracker.uri)
    result.others = [store for store in stores_left(folder) if store != tracker.uri]
    return result


def _deliver_one(journal: RunJournal, tracker: Tracker, result: Delivered, retry_refused: bool) -> None:
    if retry_refused:
        journal.retry_refused()
    delivery, before = Delivery(journal, tracker), journal.waiting()
    try:
        while True:
            try:
                if not delivery.step():
                    break
            except RefusedError:
                continue
    except UnavailableError as error:
        result.away = str(error)
    refused = journal.refused()
    if refused is not None:
        result.refused.append(refused)
    delivered = before - journal.waiting() - (refused.writes if refused is not None and retry_refused else 0)
    result.writes += delivered
    result.runs += delivered > 0
