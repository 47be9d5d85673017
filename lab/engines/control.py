"""Cancelling, resuming and retrying studies, whoever trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.engines.ending import requeue_dead, study_run
from lab.engines.stores import Stores, tracking
from lab.errors import StudyError
from lab.registry import suggest
from lab.study import (
    State,
    TrialQueue,
    requeue_deleted,
    requeue_failed,
    requeue_interrupted,
    run_ids,
)
from lab.tracking import RunStatus, Tracker

__all__ = ["Counts", "cancel", "resume", "retry"]


@dataclass(frozen=True)
class Counts:
    """Numbers of cells after a change to their study: `changed` by it, and now `waiting` and `running`."""

    changed: int
    waiting: int
    running: int


def cancel(queue: TrialQueue, stores: Stores) -> Counts:
    """Start no more trials of a study; workers stop those that are running at their next step, and put them back.

    Nothing is lost: after `resume` they continue where they stopped.
    """
    with tracking(stores) as tracker:
        queue.cancel()
        requeue_dead(queue, tracker)
        states = list(queue.states().values())
        if states.count(State.CANCELLED) or states.count(State.RUNNING):
            study_run(queue, tracker).end(RunStatus.KILLED)
        return Counts(states.count(State.CANCELLED), 0, states.count(State.RUNNING))


def resume(queue: TrialQueue, stores: Stores) -> Counts:
    """Undo `cancel`, and requeue the trials whose worker died; the study still needs a worker."""
    with tracking(stores) as tracker:
        queue.resume()
        before = list(queue.states().values())
        requeue_dead(queue, tracker)
        requeue_interrupted(queue)
        states = list(queue.states().values())
        if not queue.is_over():
            _reopen(queue, tracker)
        return Counts(
            before.count(State.INTERRUPTED), states.count(State.WAITING), states.count(State.RUNNING)
        )


def retry(queue: TrialQueue, stores: Stores, cells: Sequence[str] = (), *, deleted: bool = False) -> Counts:
    """Requeue failed cells of a study with their retry count reset; they continue their runs.

    Args:
        queue: of the study.
        stores: where its runs are.
        cells: hashes of the only cells to requeue, or beginnings of hashes; all if empty.
        deleted: requeue the cells whose runs were deleted instead; they get new runs.

    Raises:
        StudyError: there is no such cell, or it has not failed (its run was not deleted).
        TrackingError: the tracking store cannot tell which runs were deleted, or the study's experiment was.
    """
    with tracking(stores) as tracker:
        requeue_dead(queue, tracker)
        missing = tracker.missing_runs(run_ids(queue)) if deleted else set()
        states = queue.states(missing)
        wanted = (State.DELETED,) if deleted else (State.FAILED, State.INTERRUPTED)
        chosen = {_find(text, states, queue.name, wanted) for text in cells} if cells else None
        if missing:
            tracker.experiment(queue.record().experiment)  # raises if that was deleted with them
        changed = requeue_deleted(queue, missing, chosen) if deleted else requeue_failed(queue, chosen)
        if changed:
            _reopen(queue, tracker)
        found = list(queue.states().values())
        return Counts(
            changed, found.count(State.WAITING) + found.count(State.CANCELLED), found.count(State.RUNNING)
        )


def _find(text: str, states: dict[str, State], study: str, wanted: Sequence[State]) -> str:
    found = [cell for cell in states if cell.startswith(text)] if text else []
    if not found:
        raise StudyError(
            f"Study '{study}' has no cell {text!r}.{suggest(text, states)} `lab plan GRID --format csv` lists them"
        )
    if len(found) > 1:
        raise StudyError(
            f"Study '{study}' has {len(found)} cells that begin with {text!r}; give more of the hash"
        )
    if states[found[0]] not in wanted:
        raise StudyError(
            f"Cell {found[0]} of study '{study}' is {states[found[0]]}; only {wanted[0]} cells can be retried"
        )
    return found[0]


def _reopen(queue: TrialQueue, tracker: Tracker) -> None:
    experiment = tracker.experiment(queue.record().experiment)
    run_id = study_run(queue, tracker).run_id
    tracker.open_run(name=queue.name, experiment=experiment, tags={}, run_id=run_id)
