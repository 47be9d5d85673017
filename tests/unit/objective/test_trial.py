"""One trial, tracked in memory: what it logs, and how its run ends in every case."""

from __future__ import annotations

import re
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lab import registry
from lab.config import TrialConfig
from lab.errors import DataError, LabWarning, OutOfMemoryError, ResourceError, TrackingError
from lab.objective import Placement, TrialResult, analyse_run, train
from lab.tracking import MemoryTracker, Run
from lab.tracking.base import Metric
from lab.tracking.checkpoints import RunCheckpoints, Uploader
from lab.tracking.memory import MemoryRun
from lab.trained import load_trained
from lab.training import (
    EpochResult,
    Interrupted,
    Outcome,
    Trainer,
    load_checkpoint,
    save_checkpoint,
)

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


def test_chosen_metrics_are_logged_by_epoch_at_the_end_and_by_a_later_analysis(
    tracker: MemoryTracker, placement: Placement
) -> None:
    chosen = {"metrics": ("auroc", "f1"), "monitor": "val_auroc", "eval_test_every_epoch": True}
    result = train(TrialConfig(**TINY, **chosen), tracker, placement=placement)
    run = only_run(tracker)
    for name in ("val_auroc", "val_f1", "epoch_test_auroc"):
        assert list(tracker.history(run["run_id"], name)) == [1, 2, 3]
    assert result.best_value == max(tracker.history(run["run_id"], "val_auroc").values())
    assert result.best_epoch is not None
    of_best = tracker.history(run["run_id"], "epoch_test_auroc")[result.best_epoch]
    assert run["metrics.test_auroc"] == result.test.metrics["auroc"] == pytest.approx(of_best)
    assert run["metrics.test_f1"] == pytest.approx(run["metrics.test_macro_f1"])
    assert "metrics.png" in tracker.artifacts(run["run_id"])
    later = analyse_run(tracker, run["run_id"])
    assert later.metrics()["test_auroc"] == pytest.approx(run["metrics.test_auroc"])


def test_a_pruned_trial_keeps_its_best_weights_and_is_tested_only_when_asked(
    tracker: MemoryTracker, placement: Placement, tmp_path: Path
) -> None:
    result = train(TrialConfig(**TINY), tracker, placement=placement, should_prune=lambda: True)
    run = tracker.record(result.run_id)
    assert (run.status, result.outcome, result.test, result.errors) == ("KILLED", Outcome.PRUNED, None, None)
    assert run.metrics["best_value"] == result.best_value
    assert not [name for name in run.metrics if name.startswith("test_")]
    kept = {"config.yaml", "intake.json", "model.txt", "checkpoints/best.pt", "checkpoints/last.pt"}
    assert set(tracker.artifacts(result.run_id)) == kept
    assert load_trained(tracker, result.run_id).run_id == result.run_id
    with pytest.raises(TrackingError, match=f"`lab errors {result.run_id}` tests it and logs its model"):
        tracker.register(result.run_id, "net")

    errors = analyse_run(tracker, result.run_id)
    run = tracker.record(result.run_id)
    assert (run.status, run.metrics["test_accuracy"]) == ("KILLED", errors.accuracy)
    assert kept | {"confusion_matrix.png", "predictions.parquet"} <= set(tracker.artifacts(result.run_id))
    assert tracker.register(result.run_id, "net").is_new


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


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often a value of a metric was stored for a step, over all runs."""
    counts: Counter[tuple[str, int]] = Counter()
    plain = MemoryRun.log_batch

    def log_batch(run: MemoryRun, *, metrics: Sequence[Metric] = (), **options: Any) -> None:
        counts.update((each.name, each.step) for each in metrics if each.step and not run._known.has(each))
        plain(run, metrics=metrics, **options)

    monkeypatch.setattr(MemoryRun, "log_batch", log_batch)
    return counts


def interrupted(config: TrialConfig, tracker: MemoryTracker, placement: Placement, epochs: int) -> Path:
    """Stop a trial after so many epochs; return the folder of its local checkpoints."""
    seen: list[int] = []
    with pytest.raises(Interrupted, match="asked to stop"):
        train(
            config,
            tracker,
            placement=placement,
            on_epoch=lambda result: seen.append(result.epoch),
            should_stop=lambda: len(seen) == epochs,
        )
    folder = placement.checkpoints(only_run(tracker)["run_id"])
    assert folder is not None
    return folder


def continued(config: TrialConfig, tracker: MemoryTracker, folder: Path) -> TrialResult:
    run_id = only_run(tracker)["run_id"]
    return train(config, tracker, placement=Placement(run_id=run_id, checkpoint_dir=folder.parent))


def same(one: TrialResult, other: TrialResult) -> bool:
    clock = ("epoch_seconds", "images_per_second", "seconds")
    curves = [
        [{k: v for k, v in epoch.items() if k not in clock} for epoch in r.history] for r in (one, other)
    ]
    ends = [{k: v for k, v in r.metrics().items() if k not in clock} for r in (one, other)]
    return curves[0] == curves[1] and ends[0] == ends[1]


@pytest.mark.parametrize("steps", [None, 2])
def test_a_trial_of_one_epoch_goes_on_within_it(
    tracker: MemoryTracker, placement: Placement, logged: Counter[tuple[str, int]], steps: int | None
) -> None:
    config = TrialConfig(**{**TINY, "epochs": 1}, log_every_n_steps=1, checkpoint_every_n_steps=steps)
    asked = iter([False] * 5 + [True] * 99)
    with pytest.raises(Interrupted, match="asked to stop"):
        train(config, tracker, placement=placement, should_stop=lambda: next(asked))
    folder = placement.checkpoints(only_run(tracker)["run_id"])
    assert folder is not None
    assert load_checkpoint(folder / "last.pt")["step"] == 5
    assert (folder / "before.pt").exists() == (steps is not None)
    if steps:  # as if the process had been killed there, after step 4
        (folder / "last.pt").unlink()
    result = continued(config, tracker, folder)
    assert "tags.lab.restarted" not in only_run(tracker)
    assert "tags.lab.continued" not in only_run(tracker)
    assert set(logged.values()) == {1}
    assert same(result, train(config, MemoryTracker()))


def test_of_a_damaged_checkpoint_the_one_before_is_used_and_no_point_is_doubled(
    tracker: MemoryTracker, placement: Placement, logged: Counter[tuple[str, int]]
) -> None:
    config = TrialConfig(**TINY, log_every_n_steps=1)
    folder = interrupted(config, tracker, placement, epochs=2)
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:-100])
    result = continued(config, tracker, folder)
    assert "lab.restarted" not in only_run(tracker)
    assert re.match(r"after epoch 1: .*last\.pt: .*checksum", only_run(tracker)["tags.lab.continued"])
    assert set(logged.values()) == {1}
    assert [step for name, step in logged if name == "train_loss"] == [1, 2, 3]
    assert same(result, train(config))


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_without_any_whole_checkpoint_it_starts_over_and_says_so(
    tracker: MemoryTracker, placement: Placement, logged: Counter[tuple[str, int]], damage: str
) -> None:
    config = TrialConfig(**TINY)
    folder = interrupted(config, tracker, placement, epochs=2)
    tracker.attach(only_run(tracker)["run_id"]).delete_file("checkpoints/last.pt")
    for file in folder.glob("*.pt"):
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:100])
    result = continued(config, tracker, folder)
    reason = {"truncated": "no checksum", "gone": "there is no checkpoint"}[damage]
    assert re.match(f"from the first epoch: .*{reason}", only_run(tracker)["tags.lab.restarted"])
    assert set(logged.values()) == {1}
    assert same(result, train(config))


def test_where_all_local_ones_are_damaged_the_runs_own_is_used(
    tracker: MemoryTracker, placement: Placement
) -> None:
    config = TrialConfig(**TINY)
    folder = interrupted(config, tracker, placement, epochs=2)
    for file in folder.glob("*.pt"):
        file.write_bytes(b"")
    result = continued(config, tracker, folder)
    assert only_run(tracker)["tags.lab.continued"].startswith("after epoch 2: ")
    assert same(result, train(config))


def test_a_state_that_does_not_fit_is_not_half_used(tracker: MemoryTracker, placement: Placement) -> None:
    config = TrialConfig(**TINY)
    folder = interrupted(config, tracker, placement, epochs=2)
    state = load_checkpoint(folder / "last.pt")
    del state["optimizer"]
    for file in folder.glob("*.pt"):
        save_checkpoint(state, file)
    tracker.attach(only_run(tracker)["run_id"]).delete_file("checkpoints/last.pt")
    result = continued(config, tracker, folder)
    assert "optimizer" in only_run(tracker)["tags.lab.restarted"]
    assert same(result, train(config))


def test_what_nobody_heard_of_before_the_end_is_told_when_it_goes_on(
    tracker: MemoryTracker, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrialConfig(**TINY)

    def fail(run: MemoryRun, history: Mapping[int, Any], **_: Any) -> None:
        if 2 in history:
            raise TrackingError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryRun, "log_history", fail)
        with pytest.raises(TrackingError, match="the server is gone"):
            train(config, tracker, placement=placement)
    run_id = only_run(tracker)["run_id"]
    told: list[int] = []
    train(
        config,
        tracker,
        placement=Placement(run_id=run_id, checkpoint_dir=placement.checkpoint_dir),
        on_epoch=lambda result: told.append(result.epoch),
    )
    assert told == [2, 3]
    assert list(tracker.history(run_id, "train_loss")) == [1, 2, 3]


def test_checkpoints_go_to_the_run_while_it_trains_and_a_failure_is_only_a_warning(
    tracker: MemoryTracker, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploader, "pause", 0.0)
    config = TrialConfig(**TINY)
    run: list[Run] = []
    held: list[bool] = []

    def wait(result: EpochResult) -> None:
        deadline, place = time.monotonic() + 60, "spare2.pt" if result.epoch == 2 else "spare.pt"
        while f"checkpoints/{place}" not in tracker.artifacts(run[0].run_id) and time.monotonic() < deadline:
            time.sleep(0.01)
        held.append(f"checkpoints/{place}" in tracker.artifacts(run[0].run_id))

    train(config, tracker, placement=placement, on_start=run.append, on_epoch=wait)
    assert held == [True] * 3
    kept = [name for name in tracker.artifacts(run[0].run_id) if name.startswith("checkpoints/")]
    assert sorted(kept) == ["checkpoints/best.pt", "checkpoints/last.pt"]

    def refuse(self: RunCheckpoints, file: Path) -> None:
        raise TrackingError("403.")

    monkeypatch.setattr(RunCheckpoints, "add", refuse)
    with pytest.warns(LabWarning, match=r"cannot be copied to the run's artifacts: 403\. Until") as warned:
        result = train(config, tracker, placement=replace(placement, name="refused"))
    assert len(warned) == 1
    assert len(result.history) == 3


def test_a_disk_that_cannot_be_written_fails_the_run_with_its_name(
    tracker: MemoryTracker, tmp_path: Path
) -> None:
    (tmp_path / "full").touch()
    placement = Placement(checkpoint_dir=tmp_path / "full")
    with pytest.raises(ResourceError, match=r"full/\w+/last\.pt cannot be written: .*Free some space"):
        train(TrialConfig(**TINY), tracker, placement=placement)
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"]) == ("FAILED", "failed")
    assert run["tags.lab.error"].startswith("ResourceError: The checkpoint ")


def test_out_of_memory_is_named_and_the_memory_is_free_afterwards(
    tracker: MemoryTracker, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[Any]] = []

    def exhaust(trainer: Trainer, *_: Any) -> None:
        models.append(weakref.ref(trainer.model))
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB."
        )

    monkeypatch.setattr(Trainer, "_train_on", exhaust)
    match = r"batch_size=256, image_size=8, precision=fp32\): .*allocate 2\.00 GiB\. Lower `batch_size` or"
    with pytest.raises(OutOfMemoryError, match=match) as caught:
        train(TrialConfig(**TINY), tracker, placement=placement)
    assert models[0]() is None  # while the error is still held
    assert caught.value.__context__ is None
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"]) == ("FAILED", "failed")
    assert "too little memory" in run["tags.lab.error"]
    assert b"OutOfMemoryError" in tracker.artifacts(run["run_id"])["traceback.txt"]


class Hungry(torch.nn.Module):
    """A loss that runs out of memory once: at its tenth step, in the second epoch of `TINY`."""

    steps_left = 10

    def __init__(self, *_images: object, **_options: object) -> None:
        super().__init__()

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        Hungry.steps_left -= 1
        if Hungry.steps_left == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same machine", "another machine"])
def test_out_of_memory_that_will_be_retried_leaves_a_run_to_continue(
    tracker: MemoryTracker,
    placement: Placement,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: bool,
) -> None:
    monkeypatch.setattr(registry.losses, "_entries", dict(registry.losses._entries))
    monkeypatch.setattr(Hungry, "steps_left", Hungry.steps_left)
    registry.losses.register("hungry", Hungry)
    config = TrialConfig(**TINY, loss="hungry")
    epochs: list[int] = []
    with pytest.raises(OutOfMemoryError, match=r"too little memory .*allocate 2\.00 GiB"):
        train(
            config,
            tracker,
            placement=placement,
            on_epoch=lambda result: epochs.append(result.epoch),
            retry_out_of_memory=True,
        )
    assert epochs == [1]
    run = only_run(tracker)
    assert (run["status"], run["tags.lab.outcome"]) == ("KILLED", "killed")
    assert "tags.lab.error" not in run
    assert "traceback.txt" not in tracker.artifacts(run["run_id"])
    folder = placement.checkpoints(run["run_id"])
    assert folder is not None
    again = continued(config, tracker, tmp_path / "other" / "run" if elsewhere else folder)
    assert (only_run(tracker)["status"], len(again.history)) == ("FINISHED", 3)
    assert same(again, train(config))


def test_only_out_of_memory_is_retried(tracker: MemoryTracker) -> None:
    with pytest.raises(DataError, match="mnist"):
        train(TrialConfig(dataset="mnist"), tracker, retry_out_of_memory=True)
    assert only_run(tracker)["status"] == "FAILED"


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


def test_too_little_memory_of_a_cpu_is_named_likewise(tracker: MemoryTracker, placement: Placement) -> None:
    with pytest.raises(
        OutOfMemoryError, match=r"too little memory .*you tried to allocate 36000000000000 bytes"
    ):
        train(TrialConfig(**{**TINY, "depth": 2, "width": 1_000_000}), tracker, placement=placement)
    assert "too little memory" in only_run(tracker)["tags.lab.error"]
