"""Concluding a study: whatever is wrong with its leaderboard, it is concluded, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from lab.config import parse_grid
from lab.engines import Served, ending
from lab.engines.ending import conclude_if_over, end_left, study_run
from lab.study import StudyKey, TrialKey, TrialQueue, feasible_cells, open_storage, submit
from lab.tracking import MemoryTracker, Run, RunStatus
from lab.tracking.tags import Tag


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


def begun(tracker: MemoryTracker, url: str) -> tuple[TrialQueue, int, Run]:
    """Return a study whose only trial this process has, the trial's id, and its run."""
    grid = parse_grid("name: s\nbase: {dataset: digits, width: 4, depth: 1, epochs: 1}\n", "s.yaml")
    queue = submit(grid, feasible_cells(grid), open_storage(url), tracker).queue
    claim = queue.claim()
    assert claim is not None
    tags = {Tag.STUDY: "s", Tag.KIND: "trial", Tag.TRIAL: "0", Tag.CELL: claim.config.cell_hash}
    run = tracker.open_run(name="", experiment=tracker.experiment(queue.record().experiment), tags=tags)
    queue.note_trial(claim.trial_id, TrialKey.RUN_ID, run.run_id)
    return queue, claim.trial_id, run


def undelivered(tracker: MemoryTracker, url: str) -> tuple[TrialQueue, Run]:
    """Return a study whose trial has ended, and the trial's run, whose end the store has not heard of."""
    queue, trial_id, run = begun(tracker, url)
    queue.complete(trial_id, 0.5)
    return queue, run


def test_a_leaderboard_has_what_another_process_is_still_delivering(url: str) -> None:
    class Late(MemoryTracker):
        def runs(self, *args: Any, **options: Any) -> pd.DataFrame:
            found = super().runs(*args, **options)
            if run.run_id in found["run_id"].tolist():
                run.log_metrics({"best_value": 0.5}, 1)
                run.end(RunStatus.FINISHED)
            return found

    tracker = Late()
    queue, run = undelivered(tracker, url)
    result = conclude_if_over(queue, tracker)
    assert result is not None
    assert result.leaderboard["best_value"].tolist() == [0.5]


def test_a_run_that_nobody_ends_is_not_waited_for_forever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_DELIVERY_SECONDS", 0.3)
    tracker = MemoryTracker()
    queue, run = undelivered(tracker, url)
    result = conclude_if_over(queue, tracker)
    assert result is not None
    assert result.trouble == ""
    assert len(result.leaderboard) == 1
    assert tracker.status(run.run_id) == RunStatus.FINISHED


def give_up(queue: TrialQueue, trial_id: int) -> None:
    queue.note(StudyKey.MAX_RETRIES, 0)
    queue.note_trial(trial_id, TrialKey.GIVEN_UP, True)
    queue.fail(trial_id)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda queue, trial: None, RunStatus.RUNNING),  # this process has it
        (lambda queue, trial: queue.put_back(trial), RunStatus.KILLED),
        (lambda queue, trial: (queue.put_back(trial), queue.cancel()), RunStatus.KILLED),
        (lambda queue, trial: (queue.put_back(trial), queue.stop(trial)), RunStatus.KILLED),
        (lambda queue, trial: queue.prune(trial, 0.5), RunStatus.KILLED),
        (lambda queue, trial: queue.complete(trial, 0.5), RunStatus.FINISHED),
        (give_up, RunStatus.FAILED),
    ],
)
def test_the_run_of_a_trial_that_no_worker_has_ends_as_the_trial_did(
    url: str, end: Callable[[TrialQueue, int], Any], status: RunStatus
) -> None:
    tracker = MemoryTracker()
    queue, trial_id, run = begun(tracker, url)
    end(queue, trial_id)
    end_left(queue, tracker, tracker.runs(tracker.experiment(queue.record().experiment)))
    assert tracker.status(run.run_id) == status


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
