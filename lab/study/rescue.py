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
from lab.study.liveness import HEARTBEAT_SECONDS
from lab.study.queue import Queued, TrialQueue
from lab.study.record import TrialRecord

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


def requeue_dead(
    queue: TrialQueue, gone: Collection[str] = (), spared: Collection[str] = ()
) -> list[TrialRecord]:
    """Requeue the running trials whose worker is dead; return those that have died too often and were failed.

    A worker on this machine is dead when its process has exited, one elsewhere when its heartbeat has stopped. So is
    another program that has taken a trial and never sent one, counted from when it is first seen here. Trials
    that another process failed for that, and was killed before it could requeue them, are requeued too.

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
        silent = set(queue.storage._get_stale_trial_ids(queue.study_id))
        if (
            waited.seconds >= HEARTBEAT_SECONDS
        ):  # a process slept in this lock: all who waited for it were silent
            silent.clear()
        for record in queue.records(TrialState.RUNNING):
            if record.trial_id in silent or is_gone(record):
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
