"""Sweeps with real processes: everything once, continued after every kind of end."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, SweepResult, sweep
from lab.errors import ConfigError, DataError, StudyError
from lab.study import study_status
from lab.tracking import connect
from tests.once import copy_of, made_once
from tests.stores import stores_in
from tests.workers import forked, kill

MakeGrid = Callable[..., Grid]
Swept = tuple[Stores, SweepResult]


def trial_runs(stores: Stores, study: str = "tiny") -> pd.DataFrame:
    tracker = connect(stores.tracking_uri)
    experiment = tracker.find_experiment(study)
    assert experiment is not None
    return tracker.runs(experiment, tags={"lab.kind": "trial"}).sort_values("name", ignore_index=True)


def parent_run(stores: Stores, study: str = "tiny") -> pd.Series[Any]:
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "study"})
    assert len(runs) == 1
    return runs.iloc[0]


def curves(stores: Stores, study: str = "tiny") -> dict[str, list[dict[int, float]]]:
    """Return every run's curves that do not depend on the clock, by run name."""
    tracker = connect(stores.tracking_uri)
    names = (
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "test_loss",
        "test_accuracy",
        "best_value",
    )
    runs = trial_runs(stores, study)
    return {
        run["name"]: [tracker.history(run["run_id"], metric) for metric in names]
        for _, run in runs.iterrows()
    }


def calm(stores: Stores, make_grid: MakeGrid, **options: Any) -> dict[str, list[dict[int, float]]]:
    """Return the curves of an undisturbed sweep of the same cells with one worker."""
    sweep(make_grid(name="calm", **options), stores, workers=1)
    return curves(stores, "calm")


@pytest.fixture
def swept(
    make_grid: MakeGrid, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path
) -> Swept:
    """The stores after a sweep of two workers, this test's own, and what the sweep returned."""

    def make(folder: Path) -> None:
        copy_of(fresh_databases, folder)
        result = sweep(make_grid(), stores_in(folder), workers=2)
        (folder / "result").write_bytes(pickle.dumps(result))

    copy_of(made_once(tmp_path_factory, "swept", make), tmp_path)
    result: SweepResult = pickle.loads((tmp_path / "result").read_bytes())
    return stores_in(tmp_path), result


def test_every_cell_once_and_all_of_it_tracked(swept: Swept) -> None:
    stores, result = swept
    assert (result.ending, result.states) == ("done", {"complete": 4})
    runs = trial_runs(stores)
    assert runs["status"].tolist() == ["FINISHED"] * 4
    assert runs["tags.lab.outcome"].tolist() == ["completed"] * 4
    assert runs["tags.lab.cell"].nunique() == 4
    assert runs["name"].tolist() == sorted(
        f"lr={lr} {activation}" for lr in ("0.01", "0.02") for activation in ("relu", "tanh")
    )
    assert set(runs["tags.mlflow.parentRunId"]) == {parent_run(stores)["run_id"]}
    assert parent_run(stores)["status"] == "FINISHED"
    assert len(result.leaderboard) == 4
    assert not list(stores.checkpoint_dir.rglob("*.pt"))


def test_a_run_has_all_that_was_promised(swept: Swept, tmp_path: Path) -> None:
    stores, _ = swept
    run = trial_runs(stores).iloc[0]
    params = {name: run[f"params.{name}"] for name in ("lr", "activation", "optimizer", "filters", "seed")}
    assert params == {"lr": "0.01", "activation": "relu", "optimizer": "adam", "filters": "4", "seed": "0"}
    metrics = (
        "train_loss",
        "val_accuracy",
        "lr",
        "epoch_seconds",
        "images_per_second",
        "params",
        "mult_adds",
    )
    for name in (*metrics, "best_value", "best_epoch", "epochs", "test_accuracy", "test_loss", "seconds"):
        assert run[f"metrics.{name}"] >= 0, name
    for tag in ("lab.study", "lab.cell", "lab.torch", "lab.device", "lab.threads", "lab.host"):
        assert run[f"tags.{tag}"], tag
    tracker = connect(stores.tracking_uri)
    for path in (
        *("config.yaml", "model.txt", "curves.png", "confusion_matrix.png"),
        *("checkpoints/last.pt", "checkpoints/best.pt"),
    ):
        assert tracker.download(run["run_id"], path, tmp_path / "down") is not None, path
    parent = parent_run(stores)["run_id"]
    for path in ("grid.yaml", "leaderboard.csv", "leaderboard.json"):
        assert tracker.download(parent, path, tmp_path / "down") is not None, path


def test_the_same_file_again_runs_nothing_and_a_grown_one_only_the_new(
    swept: Swept, make_grid: MakeGrid
) -> None:
    stores, _ = swept
    before = trial_runs(stores)
    sweep(make_grid(), stores, workers=1)
    pd.testing.assert_frame_equal(trial_runs(stores), before)
    added: list[int] = []
    sweep(
        make_grid(more="  optimizer: [adam, sgd]"),
        stores,
        workers=1,
        on_plan=lambda submission, progress: added.append(submission.added),
    )
    after = trial_runs(stores)
    assert added == [4]
    assert len(after) == 8
    assert set(before["run_id"]) < set(after["run_id"])


@pytest.mark.slow
def test_how_many_workers_there_are_does_not_change_a_bit(stores: Stores, make_grid: MakeGrid) -> None:
    sweep(make_grid(), stores, workers=3)
    assert curves(stores) == calm(stores, make_grid)


def stop_after(epochs: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    seen = {"stop": False}

    def watch(progress: Progress) -> None:
        if any(running.epoch >= epochs for running in progress.running.values()):
            seen["stop"] = True

    return watch, lambda: seen["stop"]


@pytest.mark.slow
def test_a_stopped_sweep_is_put_back_and_continued_exactly(stores: Stores, make_grid: MakeGrid) -> None:
    watch, should_stop = stop_after(epochs=3)
    result = sweep(make_grid(epochs=60), stores, workers=2, on_progress=watch, should_stop=should_stop)
    assert result.ending == "stopped"
    assert set(result.states) <= {"waiting", "complete"}
    runs = trial_runs(stores)
    assert "RUNNING" not in set(runs["status"])
    assert "KILLED" in set(runs["status"])
    assert parent_run(stores)["status"] == "KILLED"
    assert sweep(make_grid(epochs=60), stores, workers=2).states == {"complete": 4}
    assert set(runs["run_id"]) <= set(trial_runs(stores)["run_id"])
    assert set(trial_runs(stores)["status"]) == {"FINISHED"}
    assert curves(stores) == calm(stores, make_grid, epochs=60)


@pytest.mark.slow
def test_a_killed_workers_trial_goes_on_in_the_same_run(stores: Stores, make_grid: MakeGrid) -> None:
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if len(killed) < 2 and any(running.epoch >= 3 for running in progress.running.values()):
            for victim in forked()[:1]:  # none if the last one has only just been killed
                kill(victim)
                killed.append(victim.pid)

    result = sweep(make_grid(epochs=40), stores, workers=2, on_progress=kill_one)
    assert len(killed) == 2
    assert result.states == {"complete": 4}
    assert len(trial_runs(stores)) == 4
    assert set(trial_runs(stores)["status"]) == {"FINISHED"}
    assert curves(stores) == calm(stores, make_grid, epochs=40)


def test_a_cell_that_raises_is_recorded_and_the_others_go_on(
    stores: Stores, make_grid: MakeGrid, tmp_path: Path
) -> None:
    more = "  dataset: [synthetic, mnist]\nexclude: [{activation: tanh}]"
    result = sweep(make_grid(more=more), stores, workers=2)
    assert result.states == {"complete": 2, "failed": 2}
    failed = trial_runs(stores).query("status == 'FAILED'")
    assert failed["tags.lab.outcome"].tolist() == ["failed"] * 2
    tracker = connect(stores.tracking_uri)
    trace = tracker.download(failed["run_id"].iloc[0], "traceback.txt", tmp_path / "down")
    assert trace is not None
    assert "DataError: " in trace.read_text()
    assert parent_run(stores)["status"] == "FAILED"
    status = study_status(stores.storage, "tiny")
    assert len(status.failed) == 2
    assert "--download" in status.failed[0]["error"]


@pytest.mark.slow
def test_failed_cells_are_tried_again_when_asked(stores: Stores, make_grid: MakeGrid) -> None:
    grid = make_grid(more="  dataset: [synthetic, mnist]")
    sweep(grid, stores, workers=1)
    runs = trial_runs(stores)
    sweep(grid, stores, workers=1)
    pd.testing.assert_frame_equal(trial_runs(stores), runs)
    assert sweep(grid, stores, workers=1, retry_failed=True).states == {"complete": 4, "failed": 4}
    again = trial_runs(stores)
    assert again["run_id"].tolist() == runs["run_id"].tolist()
    retried = again["end_time"] > runs["end_time"]
    assert again[retried]["status"].tolist() == ["FAILED"] * 4


def test_divergence_is_an_outcome(stores: Stores, make_grid: MakeGrid) -> None:
    text = (
        make_grid()
        .text.replace("lr: [0.01, 0.02]", "lr: [1.0e+30]")
        .replace("patience: none", "optimizer: sgd")
        .replace("tanh", "gelu")
    )
    result = sweep(parse_grid(text, "tiny.yaml"), stores, workers=1)
    assert result.states == {"complete": 2}
    runs = trial_runs(stores)
    assert runs["status"].tolist() == ["FINISHED"] * 2
    assert runs["tags.lab.outcome"].tolist() == ["diverged"] * 2
    assert (runs["metrics.diverged_step"] >= 1).all()


@pytest.mark.slow
def test_time_runs_out_between_trials(stores: Stores, make_grid: MakeGrid) -> None:
    text = make_grid().text + "budget: {seconds: 0.001}\n"
    result = sweep(parse_grid(text, "tiny.yaml"), stores, workers=1)
    assert result.ending == "out_of_time"
    assert result.states == {"complete": 1, "waiting": 3}  # the clock begins with the first trial
    again = sweep(parse_grid(text, "tiny.yaml"), stores, workers=1)
    assert again.states == {"complete": 2, "waiting": 2}


def test_cells_that_cannot_be_trained_stop_the_sweep_before_it_costs_anything(
    stores: Stores, make_grid: MakeGrid
) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cell 1 \(depth=9\): .*pool4 with window 2.*Leave them out"):
        sweep(
            parse_grid("name: tiny\nbase: {dataset: digits}\ngrid: {depth: [1, 9]}\n", "tiny.yaml"),
            stores,
        )
    assert connect(stores.tracking_uri).find_experiment("tiny") is None


def test_missing_data_stops_the_sweep_before_it_costs_anything(stores: Stores, make_grid: MakeGrid) -> None:
    text = make_grid().text.replace("dataset: synthetic\n  image_size: 8", "dataset: mnist")
    with pytest.raises(DataError, match="--download"):
        sweep(parse_grid(text, "tiny.yaml"), stores)
    assert connect(stores.tracking_uri).find_experiment("tiny") is None


def test_a_study_keeps_its_metric(swept: Swept, make_grid: MakeGrid) -> None:
    stores, _ = swept
    with pytest.raises(StudyError, match=r"'tiny' exists and compares by val_accuracy.*monitors val_loss"):
        sweep(make_grid(overrides={"monitor": "val_loss"}), stores)


def test_the_library_returns_what_the_terminal_shows(swept: Swept) -> None:
    _, result = swept
    assert result.leaderboard["rank"].tolist() == [1, 2, 3, 4]
    assert result.leaderboard["best_value"].is_monotonic_decreasing
    assert result.failed == 0
