"""One trial, tracked in memory: what it logs, and how its run ends in every case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lab.config import TrialConfig
from lab.errors import DataError
from lab.objective import Placement, train
from lab.tracking import MemoryTracker, Run
from lab.training import EpochResult, Interrupted, Outcome

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "depth": 1,
    "width": 4,
    "batch_size": 256,
    "epochs": 3,
    "lr": 0.01,
    "threads": 1,
}


@pytest.fixture
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture
def placement(tmp_path: Path) -> Placement:
    return Placement(
        name="t", tags={"lab.study": "s"}, params={"net": "tiny"}, checkpoint_dir=tmp_path / "checkpoints"
    )


def only_run(tracker: MemoryTracker) -> Any:
    runs = tracker.runs(tracker.experiment("lab"))
    assert len(runs) == 1
    return runs.iloc[0]


def test_a_finished_run_has_everything(tracker: MemoryTracker, placement: Placement) -> None:
    config = TrialConfig(**TINY)
    result = train(config, tracker, placement=placement)
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"], run["name"]) == ("FINISHED", str(result.outcome), "t")
    assert (run["params.net"], run["params.lr"], run["tags.lab.study"]) == ("tiny", "0.01", "s")
    assert run["tags.lab.cell"] == config.cell_hash
    assert run["metrics.test_accuracy"] == result.test.accuracy
    assert run["metrics.best_value"] == result.best_value
    assert run["metrics.params"] == result.summary.params
    assert list(tracker.history(run["run_id"], "val_loss")) == [1, 2, 3]
    artifacts = tracker.artifacts(run["run_id"])
    assert {"config.yaml", "model.txt", "curves.png", "confusion_matrix.png"} <= set(artifacts)
    assert {"checkpoints/last.pt", "checkpoints/best.pt"} <= set(artifacts)
    assert placement.checkpoint_dir is not None
    assert list(placement.checkpoint_dir.rglob("*.pt")) == []


def test_the_logged_config_makes_the_same_trial(tracker: MemoryTracker) -> None:
    config = TrialConfig(**TINY, activation="leaky relu", dense=(16, 8))
    train(config, tracker)
    text = tracker.artifacts(only_run(tracker)["run_id"])["config.yaml"].decode()
    assert TrialConfig(**yaml.safe_load(text)) == config


def test_the_result_is_what_was_logged_and_its_model_takes_images() -> None:
    result = train(TrialConfig(**TINY))
    assert len(result.history) == 3
    assert result.errors.confusion.sum() == len(result.test.predictions)
    assert result.errors.accuracy == pytest.approx(result.test.accuracy)
    assert result.model(torch.rand(5, 3, 8, 8)).shape == (5, 10)
    assert result.seconds > 0


def test_what_raises_is_recorded_and_raised(tracker: MemoryTracker) -> None:
    with pytest.raises(DataError, match="mnist"):
        train(TrialConfig(dataset="mnist"), tracker)
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"]) == ("FAILED", "failed")
    assert b"DataError" in tracker.artifacts(run["run_id"])["traceback.txt"]


def test_an_error_of_the_caller_is_recorded_too(tracker: MemoryTracker) -> None:
    def explode(result: EpochResult) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        train(TrialConfig(**TINY), tracker, on_epoch=explode)
    assert only_run(tracker)["status"] == "FAILED"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same machine", "another machine"])
def test_an_interrupted_run_is_killed_and_goes_on(
    tracker: MemoryTracker, placement: Placement, tmp_path: Path, elsewhere: bool
) -> None:
    config = TrialConfig(**TINY)
    whole = train(config)
    epochs: list[int] = []
    with pytest.raises(Interrupted, match="asked to stop"):
        train(
            config,
            tracker,
            placement=placement,
            on_epoch=lambda result: epochs.append(result.epoch),
            should_stop=lambda: len(epochs) == 2,
        )
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"]) == ("KILLED", "killed")
    folder = tmp_path / "other" if elsewhere else placement.checkpoint_dir
    again = train(config, tracker, placement=Placement(run_id=run["run_id"], checkpoint_dir=folder))
    assert again.test.loss == whole.test.loss
    assert [epoch["train_loss"] for epoch in again.history] == [
        epoch["train_loss"] for epoch in whole.history
    ]
    assert (only_run(tracker)["status"], again.outcome) == ("FINISHED", whole.outcome)
    history = tracker.history(run["run_id"], "train_loss")
    assert history == {n: epoch["train_loss"] for n, epoch in enumerate(whole.history, start=1)}


def test_a_damaged_checkpoint_starts_the_trial_over_and_says_so(
    tracker: MemoryTracker, placement: Placement
) -> None:
    config = TrialConfig(**TINY)
    started: list[Run] = []
    seen: list[int] = []
    with pytest.raises(Interrupted, match="asked to stop"):
        train(
            config,
            tracker,
            placement=placement,
            on_start=started.append,
            on_epoch=lambda result: seen.append(result.epoch),
            should_stop=lambda: len(seen) == 2,
        )
    run_id = started[0].run_id
    file = placement.checkpoint(run_id)
    assert file is not None
    file.write_bytes(file.read_bytes()[:100])
    result = train(
        config, tracker, placement=Placement(run_id=run_id, checkpoint_dir=placement.checkpoint_dir)
    )
    assert len(result.history) == 3
    assert "from the first epoch" in only_run(tracker)["tags.lab.restarted"]


def test_a_trial_that_diverges_at_once_is_still_a_result(tracker: MemoryTracker) -> None:
    values = {**TINY, "optimizer": "sgd", "lr": 1e38, "batch_size": 2000, "depth": 2, "image_size": 16}
    result = train(TrialConfig(**values), tracker)
    run = only_run(tracker)
    assert (result.outcome, run["tags.lab.outcome"], run["status"]) == (
        Outcome.DIVERGED,
        "diverged",
        "FINISHED",
    )
    assert (result.best_value, result.best_epoch, result.value) == (None, None, 0.0)
    assert run["metrics.diverged_step"] == 1
    assert "metrics.best_value" not in run


@pytest.mark.parametrize(("monitor", "worst"), [("val_accuracy", 0.0), ("val_loss", float("inf"))])
def test_the_worst_value_stands_for_none(monitor: str, worst: float) -> None:
    result = train(TrialConfig(**{**TINY, "monitor": monitor, "epochs": 1}))
    assert result.value == result.best_value
    assert replace(result, best_value=None).value == worst
