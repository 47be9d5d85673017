"""Everything that is requeued or put back for somebody else, and when it is given up.

Each function may be called by any number of processes at once: exactly one of them requeues a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from lab.hold import Stopwatch
from lab.study.keys import OWN_TRIAL, StudyKey, TrialKey
from lab.study.liveness import GRACE_SECONDS, HEARTBEAT_SECONDS, LOCKED_SECONDS, is_awake_here
from lab.study.queue import Queued, TrialQueue
from lab.study.record import TrialRecord
from lab.study.tables import TRIALS

__all__ = [
    "is_left",
    "put_back_dead",
    "put_back_gone",
    "requeue_dead",
    "requeue_deleted",
    "requeue_failed",
    "requeue_interrupted",
    "requeue_pruned",
    "requeued",
]

_MUTE = sa.text(
    "SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND t.state = 'RUNNING' "
    f"AND NOT EXISTS (SELECT 1 FROM trial_heartbeats h WHERE h.trial_id = t.trial_id) AND {OWN_TRIAL}"
)

_HEARTBEATS = sa.table("trial_heartbeats", sa.column("trial_id"), sa.column("heartbeat", sa.DateTime()))
_BEATS = (
    sa.select(_HEARTBEATS.c.trial_id, _HEARTBEATS.c.heartbeat, sa.func.now())
    .join(TRIALS, TRIALS.c.trial_id == _HEARTBEATS.c.trial_id)
    .where(TRIALS.c.study_id == sa.bindparam("study"), TRIALS.c.state == TrialState.RUNNING)
)
_BUSY_SECONDS = 5.0  # of waiting for the database: then others have waited, too


def requeue_dead(
    queue: TrialQueue, gone: Collection[str] = (), spared: Collection[str] = ()
) -> list[TrialRecord]:
    """Requeue the running trials whose worker is dead; return those that have died too often and were failed.

    A worker on this machine is dead when its process has exited, one elsewhere when its heartbeat has stopped. One here
    that is stopped, or hangs for longer than any waits for the database, counts as one elsewhere. So does another
    program that has taken a trial and never sent a heartbeat, from when it is first seen. Trials that another process
    failed for that, and was killed before it could requeue them, are requeued too.

    Args:
        queue: of the study.
        gone: names of workers that are known to have exited, wherever they ran.
        spared: names of workers that are left alone even if their process has exited here, because how they ended is
            about to be told; silent ones are not.
    """
    waited = Stopwatch()
    if not queue.trials(TrialState.RUNNING, TrialState.FAIL):
        return []
    given_up: list[
        TrialRecord
    ] = []  # outlives an attempt that breaks off: its successor does not find them running

    def is_gone(record: TrialRecord) -> bool:
        return record.worker_name in gone or (record.is_dead and record.worker_name not in spared)

    queue.storage.patiently(lambda: _requeue_dead(queue, is_gone, waited, given_up))
    return given_up


def _requeue_dead(
    queue: TrialQueue,
    is_gone: Callable[[TrialRecord], bool],
    waited: Stopwatch,
    given_up: list[TrialRecord],
) -> None:
    with queue.locked():  # a planner would requeue a trial that was failed and has no successor yet
        _start_silences(queue)
        # not Optuna's `fail_stale_trials`, which would fail other programs' trials too
        silences = _Silences(queue, waited)
        for record in queue.records(TrialState.RUNNING):
            if is_gone(record) or silences.tell(record):
                # exactly one process gets to fail it, and so to requeue it
                with suppress(UpdateFinishedTrialError):
                    if not record.may_retry:
                        queue.note_trial(record.trial_id, TrialKey.GIVEN_UP, True)
                    queue.fail(record.trial_id)
                    if record.may_retry:
                        queue.enqueue([requeued(record)])
                    else:
                        given_up.append(record)
        _requeue_interrupted(queue)


class _Silences:
    """For how long the workers of a study's running trials have been silent, by the database's clock.

    Args:
        queue: of the study.
        waited: since this process began to wait for the study's lock.
    """

    def __init__(self, queue: TrialQueue, waited: Stopwatch) -> None:
        self._queue = queue
        self._waited = waited
        self._seconds: dict[int, float] = {}  # by trial
        self._look()

    def tell(self, record: TrialRecord) -> bool:
        """Return whether a trial's worker has been silent for so long that it is thought dead."""
        if self._silence(record) <= GRACE_SECONDS:
            return False
        self._look()  # it may have woken up since, while others' trials were failed
        seconds = self._silence(record)
        if seconds <= GRACE_SECONDS:
            return False
        return seconds > LOCKED_SECONDS or record.worker is None or not is_awake_here(record.worker)

    def _silence(self, record: TrialRecord) -> float:
        return self._seconds.get(record.trial_id, 0.0)

    def _look(self) -> None:
        asked = Stopwatch()
        # waits for SQLite's write lock, as a heartbeat does
        with self._queue.storage.engine.begin() as connection:
            rows = connection.execute(_BEATS, {"study": self._queue.study_id}).all()
        # a process slept in the study's lock, or on the database's: all who waited for it were silent
        slept = self._waited.seconds >= HEARTBEAT_SECONDS or asked.seconds >= _BUSY_SECONDS
        # nor could others reach a database that was away: they are heard again one by one
        away = self._queue.storage.patiently.was_away(GRACE_SECONDS)
        self._seconds = {
            trial_id: (now.replace(tzinfo=None) - beat).total_seconds()
            for trial_id, beat, now in ([] if slept or away else rows)
        }


def _start_silences(queue: TrialQueue) -> None:
    """Let the silence of running trials without a heartbeat count from now; Optuna's would never begin.

    Lab's workers send one before they claim a trial. Another program that asks the study for a trial to run is given
    one that waits, sends none, and may never tell how it ended.
    """
    for (trial_id,) in queue.rows(_MUTE):
        queue.beat(trial_id)


def put_back_dead(queue: TrialQueue, gone: Collection[str] = ()) -> list[TrialRecord]:
    """Put back the running trials whose worker was ended on purpose; return them.

    Args:
        queue: of the study.
        gone: names of such workers, wherever they ran; those on this machine are found by their process.
    """
    running = queue.records(TrialState.RUNNING)
    dead = [record for record in running if record.is_dead or record.worker_name in gone]
    for record in dead:
        queue.put_back(record.trial_id, record.worker_name)
    return dead


def put_back_gone(queue: TrialQueue, gone: Collection[str]) -> list[TrialRecord]:
    """Put back the running trials of these workers, whose place was taken away; return them. No retry is counted."""
    put_back: dict[int, TrialRecord] = {}  # outlives an attempt that breaks off

    def put() -> None:
        with queue.locked():  # nobody else requeues them in between
            for record in queue.records(TrialState.RUNNING):
                if record.worker_name in gone:
                    put_back[record.trial_id] = record
                    queue.put_back(record.trial_id, record.worker_name)

    queue.storage.patiently(put)
    return list(put_back.values())


def requeue_failed(queue: TrialQueue, cells: Collection[str] | None = None) -> int:
    """Requeue every cell whose newest trial failed, with its retry count reset; return how many.

    Args:
        queue: of the study.
        cells: hashes of the only cells to requeue; all if None.
    """

    def again() -> int:
        with queue.locked():
            failed = (one for one in queue.newest().values() if one.trial.state is TrialState.FAIL)
            chosen = _chosen(failed, cells)
            _let_start(queue, chosen)
            return _requeue_all(queue, chosen, lambda record: requeued(record, retries=0))

    return queue.storage.patiently(again)


def requeue_deleted(queue: TrialQueue, missing: Collection[str], cells: Collection[str] | None = None) -> int:
    """Requeue every cell whose newest trial has ended and whose run was deleted, as if new; return how many.

    Args:
        queue: of the study.
        missing: ids of the runs that no longer exist.
        cells: hashes of the only cells to requeue; all if None.
    """

    def again() -> int:
        with queue.locked():
            deleted = (one for one in queue.newest(missing).values() if one.is_deleted)
            chosen = _chosen(deleted, cells)
            _let_start(queue, chosen)
            return _requeue_all(queue, chosen, _anew)

    return queue.storage.patiently(again)


def requeue_interrupted(queue: TrialQueue) -> int:
    """Requeue the cells whose worker died, and whose trial another process has failed without requeuing it."""

    def again() -> int:
        with queue.locked():
            return _requeue_interrupted(queue)

    return queue.storage.patiently(again)


def requeue_pruned(queue: TrialQueue, records: Collection[TrialRecord]) -> int:
    """Requeue the cells of pruned trials, to continue the same runs; return how many. The caller holds the lock."""
    return _requeue_all(queue, records, _promoted)


def _promoted(record: TrialRecord) -> Queued:
    kept = {**record.kept(), TrialKey.PROMOTED: record.epoch}
    return Queued(record.trial.params, record.trial.distributions, kept, record.trial.intermediate_values)


def requeued(record: TrialRecord, retries: int | None = None) -> Queued:
    """Return a failed trial's cell, to be queued again to continue the same run, under the study's lock.

    Args:
        record: of the failed trial.
        retries: how often the cell was retried before; one more than `record` says if None.
    """
    kept = record.kept()
    if retries is not None:
        kept[TrialKey.EARLIER_ERROR] = record.failure
        kept.pop(TrialKey.STOPPED, None)  # the user wants it after all
    kept[TrialKey.RETRIES] = record.retries + 1 if retries is None else retries
    trial = record.trial
    return Queued(trial.params, trial.distributions, kept, trial.intermediate_values)


def is_left(queue: TrialQueue, record: TrialRecord) -> bool:
    """Return whether no worker has taken up a trial since it was put back or given up."""
    state = queue.storage.get_trial(record.trial_id).state
    later, _ = queue.cells_since(record.trial_id)
    return state in (TrialState.WAITING, TrialState.FAIL) and record.cell not in later


def _requeue_interrupted(queue: TrialQueue) -> int:
    left = [record for record in queue.newest().values() if record.lacks_successor]
    return _requeue_all(queue, left, requeued)


def _anew(record: TrialRecord) -> Queued:
    """Return a cell, to be queued again to begin a run of its own."""
    return Queued(record.trial.params, record.trial.distributions, record.kept(anew=True))


def _requeue_all(
    queue: TrialQueue, records: Collection[TrialRecord], again: Callable[[TrialRecord], Queued]
) -> int:
    if records:
        queue.enqueue(map(again, records))
        queue.note(StudyKey.CONCLUDED, False)
    return len(records)


def _let_start(queue: TrialQueue, chosen: Collection[TrialRecord]) -> None:
    """Forgive failures, and restart the budget's clock if it would keep what a user has requeued from starting."""
    if chosen:
        queue.forgive()
        if queue.record().is_late:
            queue.restart_clock()


def _chosen(records: Iterable[TrialRecord], cells: Collection[str] | None) -> list[TrialRecord]:
    return [record for record in records if cells is None or record.cell in cells]
