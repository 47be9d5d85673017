"""The budget of a search as trials: one waiting slot for each point that it may try.

A worker claims a slot like a cell, and only then chooses what to try in it, knowing all that was found before.
So a budget of 50 trials is 50, however many workers there are and however often they are started again. A slot
whose point must not be trained is void: it is not counted, and another takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import TrialState

from lab.config import Grid
from lab.study.distributions import Codec, accept_search
from lab.study.queue import TrialQueue
from lab.study.record import StudyKey, TrialKey, TrialRecord
from lab.study.rescue import requeue

__all__ = [
    "end_if_over",
    "fill_slots",
    "forget_search",
    "is_superfluous",
    "search_is_over",
    "slot",
]


def slot(number: int) -> str:
    """Return what stands in place of a cell's hash for slot `number`; its retries share it."""
    return f"slot-{number}"


def fill_slots(
    grid: Grid,
    queue: TrialQueue,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Queue what the study does not have yet of a search's budget; return how many slots were added and were there.

    Args:
        grid: with a search.
        queue: of its study.
        on_progress: called with the slots queued so far and how many there are.

    Raises:
        StudyError: a parameter was another kind of thing in this study.
    """
    trials = grid.budget.trials or 0
    codec = accept_search(grid.space, queue)
    queue.note(StudyKey.SEARCH, _saved(grid))
    end_if_over(grid, queue)
    wanted = [slot(number) for number in range(trials)]
    newest = queue.newest()
    missing = [name for name in wanted if name not in newest or newest[name].lacks_successor]
    failed = {record.cell: record for record in queue.records(TrialState.FAIL)}
    for done, name in enumerate(missing):
        on_progress(done, len(missing))
        if name in failed:
            requeue(queue, failed[name])
        else:
            queue.draft(name)
    _assign_enqueued(grid, queue, codec)
    _void_superfluous(queue, trials)
    return len(missing), len(wanted) - len(missing)


def forget_search(queue: TrialQueue) -> None:
    """Make the study's workers train cells only: its file has no search any more."""
    if queue.record().search is not None:
        queue.note(StudyKey.SEARCH, None)
        _void_superfluous(queue, 0)


def search_is_over(grid: Grid, queue: TrialQueue) -> bool:
    """Return whether a search has reached its target or spent its epochs, so that no trial starts any more."""
    if grid.search is None:
        return False
    target, epochs = grid.search.target, grid.budget.epochs
    if target is not None:
        sign = 1 if grid.search.objectives[0].direction == "maximize" else -1
        newest = queue.newest().values()
        complete = [record.trial for record in newest if record.trial.state is TrialState.COMPLETE]
        if any(sign * (trial.values[0] - target) >= 0 for trial in complete):
            return True
    if epochs is None:
        return False
    spent = {record.cell: len(record.trial.intermediate_values) for record in queue.records()}
    return sum(spent.values()) >= epochs


def end_if_over(grid: Grid, queue: TrialQueue) -> bool:
    """Note in the study that its search is over if it is, so that nobody waits for its slots; return whether."""
    over = search_is_over(grid, queue)
    if over:
        queue.note(StudyKey.EXHAUSTED, _saved(grid))  # of this file: a changed one may go on
    return over


def _saved(grid: Grid) -> dict[str, Any]:
    return {"text": grid.text, "file": grid.file, "overrides": dict(grid.overrides)}


def is_superfluous(record: TrialRecord, queue: TrialQueue, budget: int) -> bool:
    """Return whether a claimed slot is beyond the budget, or there twice: two sweeps can queue it at once."""
    if record.draft_number >= budget:
        return True
    return any(
        other.number < record.number
        and other.cell == record.cell
        and other.trial.state is not TrialState.FAIL
        and not other.is_void
        for other in queue.records()
    )


def _assign_enqueued(grid: Grid, queue: TrialQueue, codec: Codec) -> None:
    """Note at the first free slots the points to try in them that were not tried yet."""
    points = [] if grid.search is None else [codec.encode(point) for point in grid.search.enqueue]
    tried = {_key(point) for record in queue.records() if (point := record.enqueued) is not None}
    free = (record for record in queue.records(TrialState.WAITING) if _is_free(record))
    for point in points:
        if _key(point) not in tried:
            record = next(free, None)
            if record is None:
                return
            queue.note_trial(record.trial_id, TrialKey.ENQUEUED, point)
            tried.add(_key(point))


def _void_superfluous(queue: TrialQueue, budget: int) -> None:
    """Void the free slots beyond a budget that was lowered."""
    for record in queue.records(TrialState.WAITING):
        if record.is_draft and record.draft_number >= budget:
            queue.void(record, "beyond the budget")


def _is_free(record: TrialRecord) -> bool:
    return record.is_draft and not record.trial.params and TrialKey.ENQUEUED not in record


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
