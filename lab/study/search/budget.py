"""The budget of a search as trials: one waiting draft for each point that it may try.

A worker claims a draft like a cell, and only then chooses what to train in it, knowing all results so far. So a budget
of 50 trials is 50, regardless of how many workers there are and how often they are restarted. A draft whose point must
not be trained is void: it does not count, and another one replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from lab.config import Grid, Search
from lab.study.distributions import Codec, accept_search
from lab.study.keys import DRAFT_PREFIX, StudyKey, TrialKey
from lab.study.queue import Queued, TrialQueue
from lab.study.record import TrialRecord
from lab.study.rescue import requeue_pruned, requeued
from lab.study.search.methods import build_pruner
from lab.study.search.rungs import RungsPruner

__all__ = ["drop_search", "fill_budget", "is_exhausted", "note_if_exhausted", "promote"]


def fill_budget(grid: Grid, queue: TrialQueue) -> tuple[int, int]:
    """Queue the part of a search's budget that the study lacks; return how many drafts were added and were there.

    Args:
        grid: with a search.
        queue: of its study; nothing else may add trials at the same time.

    Raises:
        StudyError: a parameter changed in a way that the study cannot hold.
    """
    trials = grid.budget.trials or 0
    codec = accept_search(grid.space, queue)
    queue.note(StudyKey.SEARCH, _saved(grid))
    note_if_exhausted(grid, queue)
    wanted = [f"{DRAFT_PREFIX}{number}" for number in range(trials)]
    newest = queue.newest()
    missing = [name for name in wanted if name not in newest or newest[name].lacks_successor]
    failed = {record.cell: record for record in queue.records(TrialState.FAIL)}
    queue.enqueue(requeued(failed[name]) if name in failed else Queued.draft(name) for name in missing)
    _void_surplus(queue, trials)
    if grid.search is not None:
        _assign_enqueued(grid.search, queue, codec)
        promote(grid.search, queue)  # its workers may have died before they could
    return len(missing), len(wanted) - len(missing)


def drop_search(queue: TrialQueue) -> None:
    """Make the study's workers train only cells, because its file no longer has a search."""
    if queue.record().search is not None:
        queue.note(StudyKey.SEARCH, None)
        _void_surplus(queue, 0)


def promote(search: Search, queue: TrialQueue) -> int:
    """Requeue the pruned trials that go on, once nothing else waits; return how many.

    The caller holds the study's lock.
    """
    pruner = build_pruner(search.pruner)
    if not isinstance(pruner, RungsPruner) or queue.record().starts_none or queue.waits():
        return 0
    maximize = search.objectives[0].direction == "maximize"
    return requeue_pruned(queue, pruner.promotable(queue.newest().values(), maximize=maximize))


def is_exhausted(grid: Grid, queue: TrialQueue) -> bool:
    """Return whether a search has reached its target or its budget of epochs, so that no new trials start."""
    search = grid.search
    return search is not None and (_has_target(search, queue) or _has_spent(grid.budget.epochs, queue))


def note_if_exhausted(grid: Grid, queue: TrialQueue) -> bool:
    """Return whether a search is exhausted; if so, note it in the study, so that nothing waits for its drafts."""
    exhausted = is_exhausted(grid, queue)
    if exhausted:
        queue.note(StudyKey.EXHAUSTED, _saved(grid))  # with this file: a changed one may continue
    return exhausted


def _has_target(search: Search, queue: TrialQueue) -> bool:
    if search.target is None:
        return False
    sign = 1 if search.objectives[0].direction == "maximize" else -1
    complete = [
        record.trial for record in queue.newest().values() if record.trial.state is TrialState.COMPLETE
    ]
    return any(sign * (trial.values[0] - search.target) >= 0 for trial in complete)


def _has_spent(epochs: int | None, queue: TrialQueue) -> bool:
    if epochs is None:
        return False
    spent = {record.cell: len(record.trial.intermediate_values) for record in queue.records()}
    return sum(spent.values()) >= epochs


def _saved(grid: Grid) -> dict[str, Any]:
    """Return what the study stores of a search, from which a worker reads it."""
    return {"text": grid.text, "file": grid.file, "overrides": dict(grid.overrides)}


def _assign_enqueued(search: Search, queue: TrialQueue, codec: Codec) -> None:
    """Note in the first free drafts the points that are to be tried first and were not tried yet."""
    points = [codec.encode(point) for point in search.enqueue]
    tried = {_key(point) for record in queue.records() if (point := record.enqueued) is not None}
    free = (record for record in queue.records(TrialState.WAITING) if _is_free(record))
    for point in points:
        if _key(point) not in tried:
            record = next(free, None)
            if record is None:
                return
            queue.note_trial(record.trial_id, TrialKey.ENQUEUED, point)
            tried.add(_key(point))


def _void_surplus(queue: TrialQueue, budget: int) -> None:
    """Void the free drafts beyond a budget that was lowered."""
    for record in queue.records(TrialState.WAITING):
        if record.is_draft and record.draft_number >= budget:
            queue.void(record, "beyond the budget")


def _is_free(record: TrialRecord) -> bool:
    return record.is_draft and not record.trial.params and TrialKey.ENQUEUED not in record


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
