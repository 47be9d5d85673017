"""The budget of a search as trials: one waiting slot for each point that it may try.

A worker claims a slot like a cell, and only then chooses what to try in it, knowing all that was found before.
So a budget of 50 trials is 50, however many workers there are and however often they are started again. A slot
whose point must not be trained is void: it is not counted, and another takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lab.config import Grid
from lab.study.distributions import Codec, accept_search
from lab.study.queue import TrialQueue, is_void
from lab.study.record import TrialRecord

__all__ = [
    "end_if_over",
    "fill_slots",
    "forget_search",
    "is_superfluous",
    "search_is_over",
    "slot",
]

_SEARCH = "search"  # the study's attribute that workers read the search from


def slot(number: int) -> str:
    """Return what stands in place of a cell's hash for slot `number`; its retries share it."""
    return f"slot-{number}"


def fill_slots(
    grid: Grid,
    queue: TrialQueue,
    states: Mapping[str, str],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Queue what the study does not have yet of a search's budget; return how many slots were added and were there.

    Args:
        grid: with a search.
        queue: of its study.
        states: state of each slot's newest trial, from `cell_states`; nobody else may add any in the meantime.
        on_progress: called with the slots queued so far and how many there are.

    Raises:
        StudyError: a parameter was another kind of thing in this study.
    """
    trials = grid.budget.trials or 0
    codec = accept_search(grid.space, queue)
    queue.set_attribute(_SEARCH, _saved(grid))
    end_if_over(grid, queue)
    wanted = [slot(number) for number in range(trials)]
    missing = [name for name in wanted if states.get(name, "lost") == "lost"]
    lost = {TrialRecord(trial).cell: trial for trial in queue.trials(TrialState.FAIL)}
    for done, name in enumerate(missing):
        on_progress(done, len(missing))
        if name in lost:
            queue.requeue(lost[name])
        else:
            queue.reserve(name)
    _assign_enqueued(grid, queue, codec)
    _void_superfluous(queue, trials)
    return len(missing), len(wanted) - len(missing)


def forget_search(queue: TrialQueue) -> None:
    """Make the study's workers train cells only: its file has no search any more."""
    if queue.attribute(_SEARCH) is not None:
        queue.set_attribute(_SEARCH, None)
        _void_superfluous(queue, 0)


def search_is_over(grid: Grid, queue: TrialQueue) -> bool:
    """Return whether a search has reached its target or spent its epochs, so that no trial starts any more."""
    if grid.search is None:
        return False
    target, epochs = grid.search.target, grid.budget.epochs
    if target is not None:
        sign = 1 if grid.search.objectives[0].direction == "maximize" else -1
        newest = queue.newest().values()
        complete = [trial for trial in newest if trial.state is TrialState.COMPLETE]
        if any(sign * (trial.values[0] - target) >= 0 for trial in complete):
            return True
    if epochs is None:
        return False
    spent = {TrialRecord(trial).cell: len(trial.intermediate_values) for trial in queue.trials()}
    return sum(spent.values()) >= epochs


def end_if_over(grid: Grid, queue: TrialQueue) -> bool:
    """Note in the study that its search is over if it is, so that nobody waits for its slots; return whether."""
    over = search_is_over(grid, queue)
    if over:
        queue.set_attribute("ended", _saved(grid))  # of this file: a changed one may go on
    return over


def _saved(grid: Grid) -> dict[str, Any]:
    return {"text": grid.text, "file": grid.file, "overrides": dict(grid.overrides)}


def is_superfluous(trial: FrozenTrial, queue: TrialQueue, budget: int) -> bool:
    """Return whether a claimed slot is beyond the budget, or there twice: two sweeps can queue it at once."""
    record = TrialRecord(trial)
    if record.slot >= budget:
        return True
    return any(
        other.number < trial.number
        and TrialRecord(other).cell == record.cell
        and other.state is not TrialState.FAIL
        and not is_void(other)
        for other in queue.trials()
    )


def _assign_enqueued(grid: Grid, queue: TrialQueue, codec: Codec) -> None:
    """Note at the first free slots the points to try in them that were not tried yet."""
    points = [] if grid.search is None else [codec.encode(point) for point in grid.search.enqueue]
    tried = {_key(point) for trial in queue.trials() if (point := TrialRecord(trial).enqueued) is not None}
    free = (trial for trial in queue.trials(TrialState.WAITING) if _is_free(trial))
    for point in points:
        if _key(point) not in tried:
            trial = next(free, None)
            if trial is None:
                return
            queue.annotate(trial, "enqueued", point)
            tried.add(_key(point))


def _void_superfluous(queue: TrialQueue, budget: int) -> None:
    """Void the free slots beyond a budget that was lowered."""
    for trial in queue.trials(TrialState.WAITING):
        record = TrialRecord(trial)
        if record.is_slot and "config" not in record and record.slot >= budget:
            queue.void(trial, "beyond the budget")


def _is_free(trial: FrozenTrial) -> bool:
    record = TrialRecord(trial)
    return record.is_slot and not trial.params and "config" not in record and "enqueued" not in record


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
