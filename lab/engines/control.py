"""Stopping studies and letting them go on, whoever works on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.engines.ending import requeue_dead, study_run
from lab.engines.stores import Stores, tracking
from lab.errors import StudyError
from lab.registry import suggest
from lab.study import TrialQueue, cell_states, run_ids
from lab.tracking import RunStatus, Tracker

__all__ = ["Counts", "cancel", "resume", "retry"]


@dataclass(frozen=True)
class Counts:
    """Cells of a study after something was done to it: `changed` by it, and how many are `waiting` and `running`."""

    changed: int
    waiting: int
    running: int


def cancel(queue: TrialQueue, stores: Stores) -> Counts:
    """Let nobody begin what waits in a study; workers stop what runs of it at their next step, and put it back.

    Nothing is lost: `resume` lets it go on from where it was.
    """
    with tracking(stores) as tracker:
        queue.set_attribute("cancelled", True)
        requeue_dead(queue, tracker)
        states = list(cell_states(queue).values())
        if states.count("cancelled") or states.count("running"):
            study_run(queue, tracker).end(RunStatus.KILLED)
        return Counts(states.count("cancelled"), 0, states.count("running"))


def resume(queue: TrialQueue, stores: Stores) -> Counts:
    """Undo `cancel`, and put back the trials whose worker is gone; the study still needs a worker."""
    with tracking(stores) as tracker:
        queue.set_attribute("cancelled", False)
        before = list(cell_states(queue).values())
        requeue_dead(queue, tracker)
        queue.requeue_lost()
        states = list(cell_states(queue).values())
        if not queue.is_over():
            _reopen(queue, tracker)
        put_back = before.count("interrupted") + before.count("lost")
        return Counts(put_back, states.count("waiting"), states.count("running"))


def retry(queue: TrialQueue, stores: Stores, cells: Sequence[str] = (), *, deleted: bool = False) -> Counts:
    """Queue failed cells of a study again, to continue their runs, with all their retries before them.

    Args:
        queue: of the study.
        stores: where its runs are.
        cells: hashes of cells, or beginnings of them; every failed one if empty.
        deleted: take those instead whose runs were deleted; they begin new ones.

    Raises:
        StudyError: a cell is not there, or is not one of these.
        TrackingError: the tracking store does not say which runs were deleted, or the study's experiment was.
    """
    with tracking(stores) as tracker:
        requeue_dead(queue, tracker)
        missing = tracker.missing_runs(run_ids(queue)) if deleted else set()
        states = cell_states(queue, missing)
        wanted = ("deleted",) if deleted else ("failed", "lost")
        chosen = {_find(text, states, queue.name, wanted) for text in cells} if cells else None
        if missing:
            tracker.experiment(queue.attributes()["experiment"])  # raises where that was deleted with them
        changed = queue.requeue_deleted(missing, chosen) if deleted else queue.requeue_failed(chosen)
        if changed:
            _reopen(queue, tracker)
        found = list(cell_states(queue).values())
        return Counts(changed, found.count("waiting") + found.count("cancelled"), found.count("running"))


def _find(text: str, states: dict[str, str], study: str, wanted: Sequence[str]) -> str:
    found = [cell for cell in states if cell.startswith(text)] if text else []
    if not found:
        raise StudyError(
            f"Study '{study}' has no cell {text!r}.{suggest(text, states)} `lab plan GRID --format csv` lists them"
        )
    if len(found) > 1:
        raise StudyError(f"Study '{study}' has {len(found)} cells that begin with {text!r}; give more of it")
    if states[found[0]] not in wanted:
        raise StudyError(
            f"The cell {found[0]} of the study '{study}' is {states[found[0]]}: only a {wanted[0]} one is tried again"
        )
    return found[0]


def _reopen(queue: TrialQueue, tracker: Tracker) -> None:
    attributes = queue.attributes()
    experiment = tracker.experiment(attributes["experiment"])
    run_id = study_run(queue, tracker).run_id
    tracker.open_run(name=queue.name, experiment=experiment, tags={}, run_id=run_id)
