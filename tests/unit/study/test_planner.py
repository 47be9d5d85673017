"""The planner on a small database: what is queued, what is left out, and what is there already."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lab.config import parse_grid
from lab.errors import ConfigError, LabError, StudyError
from lab.study import (
    StudyKey,
    Submission,
    TrialQueue,
    feasible_cells,
    open_storage,
    plan,
    requeue_deleted,
    requeue_failed,
    run_ids,
    submit,
    winner,
)
from lab.study.search.budget import is_exhausted
from lab.study.search.searcher import StudySearch
from lab.tracking import MemoryTracker

HEAD = "name: s\nbase: {dataset: digits, width: 4, depth: 1, epochs: 1}\n"


class Study:
    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        self.tracker = MemoryTracker()

    def submit(self, text: str, **overrides: Any) -> Submission:
        grid = parse_grid(HEAD + text, "s.yaml", overrides)
        return submit(grid, feasible_cells(grid), self.storage, self.tracker)


def counts(submission: Submission) -> tuple[int, int, int, int]:
    return submission.added, submission.present, submission.skipped, submission.gone


@pytest.fixture
def study(url: str) -> Study:
    return Study(open_storage(url))


def states(text: str) -> list[tuple[bool, str]]:
    return [(cell.feasible, cell.reason) for cell in plan(parse_grid(HEAD + text, "s.yaml"))]


def test_why_cells_are_left_out() -> None:
    # 4 filters or a depth and width of the same: one trial; then excluded, too large, and impossible
    text = (
        "grid:\n  net:\n    a: {width: 4}\n    b: {filters: [4]}\n    c: {width: 8}\n    d: {width: 400}\n"
        "    e: {depth: 9}\nexclude:\n  - {net: c}\nconstraints:\n  - params <= 3000\n"
    )
    found = states(text)
    assert [feasible for feasible, _ in found] == [True, False, False, False, False]
    for (_, reason), said in zip(
        found, ("", "the same trial as cell 0", "excluded: net=c", "params", "pool"), strict=True
    ):
        assert said in reason
    invalid = [cell.invalid for cell in plan(parse_grid(HEAD + text, "s.yaml"))]
    assert invalid == [False, False, False, False, True]


def test_cells_are_queued_once(study: Study) -> None:
    assert counts(study.submit("grid: {lr: [0.1, 0.2]}")) == (2, 0, 0, 0)
    assert counts(study.submit("grid: {lr: [0.1, 0.2]}")) == (0, 2, 0, 0)
    assert counts(study.submit("grid: {lr: [0.2, 0.3, 0.4]}")) == (2, 1, 0, 1)
    submission = study.submit("grid: {lr: [0.4]}")
    assert counts(submission) == (0, 1, 0, 3)
    assert list(submission.queue.states().values()) == ["waiting"] * 4
    assert len(study.tracker.find_runs(study.tracker.experiment("s"), {"lab.kind": "study"})) == 1


def test_a_queued_cell_keeps_its_whole_config(study: Study) -> None:
    submission = study.submit(
        "patience: none\ngrid: {optimizer: [adam, sgd], momentum: [0.5]}\nwhen: {momentum: {optimizer: sgd}}"
    )
    configs = [cell.config for cell in feasible_cells(parse_grid(HEAD + "grid: {lr: [0.1]}"))]
    assert configs[0].patience == 5
    for claim in iter(submission.queue.claim, None):
        assert claim.config.patience is None
        assert claim.config.cell_hash in submission.queue.states()
        assert ("momentum" in claim.params) == (claim.config.optimizer == "sgd")


def test_the_state_of_each_cell(study: Study) -> None:
    text = "grid: {lr: [0.1, 0.2, 0.3, 0.4]}"
    queue = study.submit(text).queue
    done, failed, running = (queue.claim() for _ in range(3))
    assert done is not None
    assert failed is not None
    assert running is not None
    queue.complete(done.trial_id, 0.5)
    queue.note_trial(failed.trial_id, "outcome", "failed")
    queue.fail(failed.trial_id)
    grid = parse_grid(HEAD + text, "s.yaml")
    assert [cell.state for cell in plan(grid, queue.states())] == [
        "complete",
        "failed",
        "running",
        "waiting",
    ]
    assert counts(study.submit(text)) == (0, 4, 0, 0)


@pytest.mark.parametrize("outcome", [None, "completed"])  # said by its worker just before that was killed
def test_a_trial_that_died_before_its_successor_was_queued_is_queued_again(
    study: Study, outcome: str | None
) -> None:
    queue = study.submit("grid: {lr: [0.1]}").queue
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "run_id", "r1")
    if outcome:
        queue.note_trial(claim.trial_id, "outcome", outcome)
    queue.fail(claim.trial_id)
    assert list(queue.states().values()) == ["interrupted"]
    assert counts(study.submit("grid: {lr: [0.1]}")) == (1, 0, 0, 0)
    assert [trial.state for trial in queue.trials()] == [TrialState.FAIL, TrialState.WAITING]
    again = queue.claim()
    assert again is not None
    assert again.run_id == "r1"


def test_a_budget_takes_the_first_cells(study: Study) -> None:
    submission = study.submit("grid: {lr: [0.1, 0.2, 0.3]}\nbudget: {trials: 2}")
    assert counts(submission) == (2, 0, 1, 0)
    assert [trial.params["lr"] for trial in submission.queue.trials()] == [0.1, 0.2]


def test_repeats_are_cells_of_their_own(study: Study) -> None:
    assert counts(study.submit("grid: {lr: [0.1, 0.2]}\nrepeats: 3")) == (6, 0, 0, 0)


def test_nothing_feasible(study: Study) -> None:
    with pytest.raises(ConfigError, match=r"no cell is feasible; `lab plan s\.yaml` says why"):
        study.submit("grid: {lr: [0.1]}\nconstraints: [params <= 1]")


def test_many_impossible_cells_are_told_once(study: Study) -> None:
    seeds = ", ".join(map(str, range(30)))
    with pytest.raises(ConfigError, match=r"(?s)cell 1 .*and 10 more\. Leave them out") as caught:
        study.submit(f"grid: {{depth: [1, 9], seed: [{seeds}]}}".replace("depth: [1, 9], ", "depth: [9], "))
    assert len(caught.value.faults) == 21


def test_one_metric_for_all(study: Study) -> None:
    text = "grid: {monitor: [val_accuracy, val_loss]}"
    with pytest.raises(
        ConfigError, match=r"by one metric, but they monitor val_accuracy \(max\), val_loss \(min\)"
    ):
        study.submit(text)
    study.submit("grid: {lr: [0.1]}")
    with pytest.raises(StudyError, match="'s' exists and compares by val_accuracy"):
        study.submit("grid: {lr: [0.1]}", monitor="val_loss")


def test_what_a_study_needs_is_kept_with_it(study: Study) -> None:
    assert study.submit("grid: {lr: [0.1]}").queue.record().needs == ()


def test_a_trial_whose_worker_is_gone_is_interrupted(study: Study) -> None:
    queue = study.submit("grid: {lr: [0.1]}").queue
    claim = queue.claim()
    assert claim is not None
    assert list(queue.states().values()) == ["running"]
    host = socket.gethostname()
    queue.note_trial(claim.trial_id, "worker", f"{host}:{os.getpid()}:0.00")  # its id is used again
    assert list(queue.states().values()) == ["interrupted"]
    assert counts(study.submit("grid: {lr: [0.1]}")) == (0, 1, 0, 0)


def test_a_cell_that_failed_before_says_so_under_another_name(study: Study) -> None:
    queue = study.submit("grid: {lr: [0.1]}").queue
    first = queue.claim()
    assert first is not None
    queue.note_trial(first.trial_id, "outcome", "failed")
    queue.note_trial(first.trial_id, "error", "OSError: the disk is full")
    queue.fail(first.trial_id)
    assert requeue_failed(queue, ["another"]) == 0
    assert requeue_failed(queue) == 1
    again = queue.claim()
    assert again is not None
    assert (first.earlier_error, again.earlier_error) == ("", "OSError: the disk is full")
    assert "lab:error" not in queue.trials(TrialState.RUNNING)[0].user_attrs


def test_a_study_is_over_when_nothing_waits_or_runs(study: Study) -> None:
    queue = study.submit("grid: {lr: [0.1, 0.2]}").queue
    assert (queue.waiting(), queue.is_over()) == (2, False)
    for claim in iter(queue.claim, None):
        assert queue.is_mine(claim.trial_id)
        assert not queue.is_over()
        queue.complete(claim.trial_id, 0.5)
        assert not queue.is_mine(claim.trial_id)
    assert (queue.waiting(), queue.is_over()) == (0, True)


def test_one_put_back_before_the_cursor_is_found_again(study: Study) -> None:
    queue = study.submit("grid: {lr: [0.1, 0.2, 0.3]}").queue
    first, second = queue.claim(), queue.claim()
    assert first is not None
    assert second is not None
    queue.put_back(first.trial_id)
    assert [claim.number for claim in iter(queue.claim, None)] == [2, 0]


def test_the_winner_is_one_of_the_cells_that_were_planned_last(study: Study) -> None:
    grid = "grid: {lr: [0.1]}"

    def trained(value: float, **overrides: int) -> TrialQueue:
        queue = study.submit(grid, **overrides).queue
        claim = queue.claim()
        assert claim is not None
        queue.complete(claim.trial_id, value)
        return queue

    def winning(queue: TrialQueue) -> float | None:
        best = winner(queue)
        return None if best is None else best.best_value

    assert winning(trained(0.9)) == 0.9
    assert winning(study.submit(grid, epochs=2).queue) == 0.9  # none of these has finished yet
    assert winning(trained(0.5, epochs=2)) == 0.5


def test_cells_whose_runs_were_deleted_are_shown_and_queued_again_as_new(study: Study) -> None:
    text = "grid: {lr: [0.1, 0.2, 0.3]}"
    queue = study.submit(text).queue
    for value in (0.7, 0.9, 0.9):
        claim = queue.claim()
        assert claim is not None
        run = study.tracker.open_run(name=claim.label, experiment=study.tracker.experiment("s"), tags={})
        for key, noted in {
            "run_id": run.run_id,
            "best_value": value,
            "params": 10,
            "outcome": "completed",
        }.items():
            queue.note_trial(claim.trial_id, key, noted)
        queue.complete(claim.trial_id, value)
    best = winner(queue)
    assert best is not None
    assert best.number == 1  # of equals the first
    study.tracker.delete_run(best.run_id)
    missing = study.tracker.missing_runs(run_ids(queue))
    assert list(queue.states(missing).values()) == ["complete", "deleted", "complete"]
    other = winner(queue, missing)
    assert other is not None
    assert other.number == 2
    again = study.submit(text)
    assert (again.added, again.present, again.deleted) == (0, 3, 1)
    assert (requeue_deleted(queue, missing), requeue_deleted(queue, missing)) == (1, 0)
    claim = queue.claim()
    assert claim is not None
    assert (claim.label, claim.run_id, claim.tried) == ("lr=0.2", None, False)


def test_a_target_that_a_deleted_run_reached_is_not_reached_any_more(study: Study) -> None:
    text = "search: {sampler: random, space: {lr: {low: 0.1, high: 0.2}}, target: 0.9}\nbudget: {trials: 1}"
    queue = study.submit(text).queue
    grid = parse_grid(HEAD + text, "s.yaml")
    claim = queue.claim(StudySearch(queue).prepare)
    assert claim is not None
    queue.note_trial(claim.trial_id, "run_id", "0" * 32)
    queue.complete(claim.trial_id, 0.95)
    assert is_exhausted(grid, queue)
    requeue_deleted(queue, {"0" * 32})
    assert not is_exhausted(grid, queue)
    assert queue.waits()


def test_submitting_again_notes_the_budget_and_gives_its_time_again(study: Study) -> None:
    text = "budget: {seconds: 60}\ngpu_memory: 2GB\ngrid: {lr: [0.1, 0.2]}"
    queue = study.submit(text).queue
    assert (queue.record().seconds, queue.record().gpu_memory) == (60, 2_000_000_000)
    assert queue.claim() is not None
    queue.note(StudyKey.BEGAN, 0.0)
    queue.note(StudyKey.CONCLUDED, True)
    assert (queue.waits(), queue.held_back()) == (False, "out_of_time")
    assert study.submit(text).added == 0
    assert (queue.waits(), queue.held_back(), queue.record().concluded) == (True, None, False)
    study.submit("grid: {lr: [0.1, 0.2]}")
    assert (queue.record().seconds, queue.record().gpu_memory) == (None, None)


@pytest.mark.parametrize(
    ("grid", "needs"),
    [
        ("metrics: [[f1], [ece]]", "The metric f1 needs torchmetrics"),
        ("optimizer: [adam, lion]", "The optimizer lion needs timm"),
        ("architecture: [cnn, timm/convnext_atto]", "The architecture timm/convnext_atto needs timm"),
    ],
)
def test_what_a_cell_needs_is_missed_before_anything_is_queued(
    study: Study, monkeypatch: pytest.MonkeyPatch, grid: str, needs: str
) -> None:
    for package in ("timm", "torchmetrics"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LabError, match=rf"{needs}, which is not installed here: pip install 'lab\[t"):
        study.submit(f"grid: {{{grid}}}")
    assert study.submit("grid: {lr: [0.1]}").added == 1
