"""The budget of a search as trials: one waiting draft for each point that it may try.

A worker claims a draft like a cell, and only then chooses what to train in it, knowing all results so far. So a budget
of 50 trials is 50, regardless of how many workers there are and how often they are restarted. A draft whose point must
not be trained is void: it does not count, and another one replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Self

from optuna.trial import TrialState

from lab.config import Grid, Search
from lab.study.distributions import accept_search
from lab.study.keys import DRAFT_PREFIX, StudyKey, TrialKey
from lab.study.queue import Queued, TrialQueue
from lab.study.record import TrialRecord, newest_of
from lab.study.rescue import requeue_pruned, requeued
from lab.study.search.methods import build_pruner
from lab.study.search.rungs import RungsPruner

__all__ = ["drop_search", "fill_budget", "is_exhausted", "note_if_exhausted", "promote"]

Params = Mapping[str, Any]


def fill_budget(grid: Grid, queue: TrialQueue) -> tuple[int, int]:
    """Queue the part of a search's budget that the study lacks; return how many drafts were added and were there.

    Args:
        grid: with a search; where that tries every point, `enqueue` has all of them, which are then the budget.
        queue: of its study; nothing else may add trials at the same time.

    Raises:
        StudyError: a parameter changed in a way that the study cannot hold.
    """
    search = grid.search
    assert search is not None
    queue.note(StudyKey.SEARCH, _saved(grid))
    codec = accept_search(grid.space, queue)
    note_if_exhausted(grid, queue)
    need = _Need.of(grid, search, queue.records(), [codec.encode(point) for point in search.enqueue])
    points = iter(need.points)
    for record, point in zip(need.free, points, strict=False):
        queue.note_trial(record.trial_id, TrialKey.ENQUEUED, point)
    # with their points: a worker may claim a draft as soon as it is there
    queue.enqueue([_queued(name, earlier, points) for name, earlier in need.missing.items()])
    for record in need.surplus:
        queue.void(record, "beyond the budget")
    promote(search, queue)  # its workers may have died before they could
    return len(need.missing), need.budget - len(need.missing)


def drop_search(queue: TrialQueue) -> None:
    """Make the study's workers train only cells, because its file no longer has a search."""
    if queue.record().search is not None:
        queue.note(StudyKey.SEARCH, None)
        for record in queue.records(TrialState.WAITING):
            if record.is_draft:
                queue.void(record, "beyond the budget")


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


@dataclass(frozen=True)
class _Need:
    """What a study lacks of a search, and what it has beyond it.

    Attributes:
        budget: how many drafts there are to be, with those that have ended.
        points: to be tried first that no trial has tried or is to try.
        free: drafts that wait and stay, and have no point yet.
        missing: names of the drafts to be queued, each with its trial whose worker has died, if there is one.
        surplus: drafts that wait and are no longer wanted.
    """

    budget: int
    points: Sequence[Params]
    free: Sequence[TrialRecord]
    missing: Mapping[str, TrialRecord | None]
    surplus: Sequence[TrialRecord]

    @classmethod
    def of(cls, grid: Grid, search: Search, records: Sequence[TrialRecord], points: Sequence[Params]) -> Self:
        """Return what a study with these trials lacks.

        Args:
            grid: the search's.
            search: its search.
            records: of all trials.
            points: to be tried first, as params.
        """
        tried = _tried(search, records)
        untried = [
            point for key, point in {_key(point): point for point in points}.items() if key not in tried
        ]
        waiting = [
            record for record in records if record.trial.state is TrialState.WAITING and record.is_draft
        ]
        if search.tries_every_point:
            return cls._of_points(points, untried, newest_of(records), waiting)
        budget, newest = grid.budget.trials or 0, newest_of(records)
        return cls(
            budget,
            untried,
            [record for record in waiting if _is_free(record) and record.draft_number < budget],
            {
                name: newest.get(name)
                for name in _names(budget)
                if name not in newest or newest[name].lacks_successor
            },
            [record for record in waiting if record.draft_number >= budget],
        )

    @classmethod
    def _of_points(
        cls,
        points: Sequence[Params],
        untried: Sequence[Params],
        newest: Mapping[str, TrialRecord],
        waiting: Sequence[TrialRecord],
    ) -> Self:
        """Return what a study lacks of a draft for each of `points`; drafts of an earlier file keep their numbers."""
        wanted = set(map(_key, points))
        free = [record for record in waiting if _is_free(record)]
        died = {
            name: record
            for name, record in newest.items()
            if record.lacks_successor and not _is_free(record) and _point(record) in wanted
        }
        new = (name for name in _names(len(newest) + len(untried)) if name not in newest)
        others = [record for record in waiting if not _is_free(record) and _point(record) not in wanted]
        return cls(
            len(points),
            untried,
            free[: len(untried)],
            {**died, **dict.fromkeys(islice(new, max(0, len(untried) - len(free))))},
            [*free[len(untried) :], *others],
        )


def _names(count: int) -> list[str]:
    return [f"{DRAFT_PREFIX}{number}" for number in range(count)]


def _queued(name: str, earlier: TrialRecord | None, points: Iterator[Params]) -> Queued:
    """Return a draft to be queued, with the next point if it has none of its own."""
    queued = Queued.draft(name) if earlier is None else requeued(earlier)
    point = next(points, None) if earlier is None or _is_free(earlier) else None
    return (
        queued
        if point is None
        else replace(queued, attributes={**queued.attributes, TrialKey.ENQUEUED: point})
    )


def _tried(search: Search, records: Iterable[TrialRecord]) -> set[str]:
    """Return the points, by their `_key`, that trials have tried or are to try."""
    if search.tries_every_point:
        return {_point(record) for record in records if not record.is_void}
    # a draft that nobody has begun was void because of the budget, not of its point
    begun = (record for record in records if record.trial.params or not record.is_void)
    return {_key(point) for record in begun if (point := record.enqueued) is not None}


def _point(record: TrialRecord) -> str:
    return _key({**(record.enqueued or {}), **record.trial.params})


def _is_free(record: TrialRecord) -> bool:
    return record.is_draft and not record.trial.params and TrialKey.ENQUEUED not in record


def _key(point: Params) -> str:
    return json.dumps(point, sort_keys=True)
