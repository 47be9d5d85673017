"""What a search's worker remembers: each look reads only what is new, however much has finished."""

from __future__ import annotations

from collections.abc import Collection

from optuna.trial import FrozenTrial, TrialState

from lab.config import Grid, parse_grid
from lab.study import TrialQueue, feasible_cells, open_storage, submit
from lab.study.search.memory import SearchMemory
from lab.study.search.searcher import Searcher
from lab.tracking import MemoryTracker


class Counting(TrialQueue):
    """A queue that counts the trials that are read by their worker's looks."""

    read = 0

    def begun_since(self, after: int, known: Collection[int]) -> list[FrozenTrial]:
        found = super().begun_since(after, known)
        self.read += len(found)
        return found


def planned(url: str, budget: str, search: str = "sampler: random") -> tuple[Counting, Grid]:
    grid = parse_grid(
        "name: s\nbase: {dataset: digits, depth: 1, epochs: 2}\n"
        f"search: {{{search}, space: {{lr: {{low: 0.001, high: 0.1}}}}}}\nbudget: {{{budget}}}\n",
        "s.yaml",
    )
    storage = open_storage(url)
    submit(grid, feasible_cells(grid), storage, MemoryTracker())
    return Counting(storage, "s"), grid


def searcher_of(queue: TrialQueue, grid: Grid) -> Searcher:
    assert grid.search is not None
    return Searcher(queue, grid, grid.search)


def test_claims_read_no_more_beside_more_finished_trials(url: str) -> None:
    queue, grid = planned(url, "trials: 30, epochs: 1000", "sampler: random, target: 2")
    searcher, read = searcher_of(queue, grid), []
    for _ in range(20):
        before = queue.read
        assert not searcher.is_exhausted()
        claim = queue.claim(searcher.prepare)
        assert claim is not None
        queue.complete(claim.trial_id, 0.5)
        read.append(queue.read - before)
    assert max(read[1:]) == read[1] <= 4  # the one before, which has ended, and its own at each look


def test_epochs_of_a_trial_that_was_put_back_are_spent(url: str) -> None:
    queue, grid = planned(url, "trials: 3, epochs: 2")
    searcher = searcher_of(queue, grid)
    claim = queue.claim(searcher.prepare)
    assert claim is not None
    for epoch in (1, 2):
        assert not searcher.is_exhausted()
        queue.report(claim.trial_id, epoch, 0.5)
    queue.put_back(claim.trial_id)
    assert searcher.is_exhausted()
    assert searcher_of(queue, grid).is_exhausted()


def test_samplers_see_what_runs_and_not_what_was_put_back(url: str) -> None:
    queue, grid = planned(url, "trials: 3")
    searcher, memory = searcher_of(queue, grid), SearchMemory(queue, grid)
    first, second = (queue.claim(searcher.prepare) for _ in range(2))
    assert first is not None
    assert second is not None
    assert [trial.number for trial in memory.get_all_trials(queue.study_id)] == [first.number, second.number]
    queue.put_back(second.trial_id)
    queue.complete(first.trial_id, 0.5)
    assert [trial.values for trial in memory.get_all_trials(queue.study_id)] == [[0.5]]


def test_a_second_draft_is_surplus_unless_the_first_has_failed(url: str) -> None:
    queue, grid = planned(url, "trials: 2")
    memory = SearchMemory(queue, grid)
    for name in ("slot-0", "slot-1", "slot-2"):
        queue.draft(name)
    claimed = [record.trial_id for record in queue.records()]
    assert queue.storage.set_trial_state_values(claimed[1], TrialState.RUNNING)
    queue.fail(claimed[1])
    assert [memory.is_surplus(record) for record in queue.records()] == [False, False, True, False, True]
