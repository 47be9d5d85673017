"""Concluding a study: whatever is wrong with its leaderboard, it is concluded, once."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from lab.config import parse_grid
from lab.engines import Served
from lab.engines.ending import conclude_if_over, study_run
from lab.study import TrialQueue, feasible_cells, open_storage, submit
from lab.tracking import MemoryTracker


class Poisoned(MemoryTracker):
    """A store whose tables cannot be read."""

    def runs(self, *args: Any, **options: Any) -> pd.DataFrame:
        raise ValueError("poison")


def finished(tracker: MemoryTracker, url: str) -> TrialQueue:
    grid = parse_grid("name: s\nbase: {dataset: digits, width: 4, depth: 1, epochs: 1}\n", "s.yaml")
    storage = open_storage(url)
    queue = submit(grid, feasible_cells(grid), storage, tracker).queue
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    return queue


def test_a_leaderboard_that_cannot_be_made_is_said_once_and_costs_the_study_nothing_else(url: str) -> None:
    tracker = Poisoned()
    queue = finished(tracker, url)
    result = conclude_if_over(queue, tracker)
    assert result is not None
    assert (result.trouble, result.waits, result.status) == ("ValueError: poison", False, "FINISHED")
    assert conclude_if_over(queue, tracker) is None


def test_a_studys_own_run_that_was_deleted_is_made_again(url: str) -> None:
    tracker = MemoryTracker()
    queue = finished(tracker, url)
    old = queue.record().run_id
    tracker.delete_run(old)
    result = conclude_if_over(queue, tracker)
    assert result is not None
    assert result.trouble == ""
    assert study_run(queue, tracker).run_id == queue.record().run_id != old


@pytest.mark.parametrize(
    ("served", "in_vain"),
    [
        (Served(), False),
        (Served(failed=1), True),
        (Served(broken={"s"}), True),
        (Served(done=1, failed=3, broken={"s"}), False),
    ],
)
def test_work_was_in_vain_where_there_was_some_and_none_of_it_was_done(served: Served, in_vain: bool) -> None:
    assert served.in_vain is in_vain
