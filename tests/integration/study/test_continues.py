"""Trials whose process is killed at a given moment: what goes on is the same run, to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab.config import Grid, TrialConfig, parse_grid
from lab.engines import Progress, Stores, sweep
from lab.objective import Placement, train
from lab.tracking import connect
from lab.tracking.checkpoints import RunCheckpoints, TrialCheckpoints, Uploader
from lab.tracking.mlflow import MlflowTracker
from lab.tracking.mlflow_run import MlflowRun
from lab.training import FolderCheckpoints
from tests.stores import stores_in
from tests.workers import forked, kill

CONFIG = TrialConfig(
    dataset="synthetic",
    image_size=8,
    width=4,
    depth=1,
    epochs=6,
    batch_size=256,
    dropout=0.2,
    augment=("horizontal_flip",),
    scheduler="one_cycle",
    log_every_n_steps=3,
    threads=1,
)
CLOCK = {"epoch_seconds", "images_per_second", "seconds"}
Points = dict[str, list[tuple[int, float]]]


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_when(owner: type, method: str, reached: Callable[..., bool]) -> None:
    """End this process when `method` of `owner` is called with what `reached` says is the moment."""
    plain = getattr(owner, method)

    def deadly(*args: Any, **options: Any) -> Any:
        if reached(*args):
            die()
        return plain(*args, **options)

    setattr(owner, method, deadly)


def train_until(moment: str, stores: Stores, run_id: str | None) -> None:
    """Train in this process until it is killed at `moment`, at the fourth epoch."""
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    Uploader.pause = 60.0
    on_epoch: Callable[[Any], None] = lambda result: None  # noqa: E731
    if moment == "before its checkpoint":
        die_when(TrialCheckpoints, "save", lambda store, state: state["epoch"] == 4)
    elif moment == "while it replaces a checkpoint":
        die_when(Path, "replace", lambda file, target: file.suffix == ".partial" and steps_back(target) >= 4)
    elif moment == "between checkpoint and log":
        die_when(MlflowRun, "log_history", lambda run, history: 4 in history and "train_loss" in history[4])
    elif moment == "after the log":
        on_epoch = lambda result: die() if result.epoch == 4 else None  # noqa: E731
    elif moment == "before it is told finished":
        die_when(MlflowRun, "end", lambda run, status: True)
    else:
        assert moment == "after an upload"
        Uploader.pause = 0.0

        def on_epoch(result: Any) -> None:
            if result.epoch == 2:
                wait_for_upload(tracker, stores)
            if result.epoch == 4:
                die()

    train(CONFIG, tracker, placement=placement(stores, run_id), on_epoch=on_epoch)


_replaced: list[Path] = []


def steps_back(target: Path) -> int:
    _replaced.append(target)
    return len(_replaced)


def wait_for_upload(tracker: Any, stores: Stores) -> None:
    run_id = run_of(stores)
    for _ in range(6000):
        if tracker.files(run_id, "checkpoints"):
            return
        time.sleep(0.02)
    raise TimeoutError("no checkpoint was uploaded within two minutes")


def placement(stores: Stores, run_id: str | None = None) -> Placement:
    return Placement(experiment="killed", name="trial", run_id=run_id, checkpoint_dir=stores.checkpoint_dir)


def run_of(stores: Stores) -> str:
    tracker = connect(stores.tracking_uri)
    (run_id,) = tracker.find_runs(tracker.experiment("killed"), {"lab.kind": "trial"})
    return run_id


def kill_at(moment: str, stores: Stores, run_id: str | None = None) -> str:
    """Have a process train and die at `moment`; return its run."""
    process = multiprocessing.get_context("forkserver").Process(
        target=train_until, args=(moment, stores, run_id)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return run_of(stores)


def points(stores: Stores, run_id: str) -> Points:
    """Return every point that MLflow has of the run, but what the clock says."""
    client = MlflowTracker(stores.tracking_uri)._client
    names = {name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")}
    history = {name: client.get_metric_history(run_id, name) for name in names}
    for name, found in history.items():
        steps = [point.step for point in found]
        assert len(steps) == len(set(steps)), f"{name} has {steps}"
    return {
        name: sorted((point.step, point.value) for point in found)
        for name, found in history.items()
        if name not in CLOCK
    }


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Points:
    """The points of an undisturbed trial."""
    folder = tmp_path_factory.mktemp("calm")
    stores = stores_in(folder)
    (folder / "mlflow.db").write_bytes((fresh_databases / "mlflow.db").read_bytes())
    result = train(CONFIG, connect(stores.tracking_uri, stores.artifact_dir), placement=placement(stores))
    return points(stores, result.run_id)


def finish(stores: Stores, run_id: str) -> pd.Series[Any]:
    """Continue the run here; return its row."""
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    train(CONFIG, tracker, placement=placement(stores, run_id))
    runs = tracker.runs(tracker.experiment("killed"))
    assert runs["run_id"].tolist() == [run_id]
    assert runs["status"].tolist() == ["FINISHED"]
    for name, there in {"last.pt": True, "best.pt": True, "spare.pt": False}.items():
        found = tracker.download(run_id, f"checkpoints/{name}", stores.checkpoint_dir / "down")
        assert (found is not None) is there, name
    return runs.iloc[0]


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("before its checkpoint", marks=pytest.mark.slow),
        "while it replaces a checkpoint",
        pytest.param("between checkpoint and log", marks=pytest.mark.slow),
        pytest.param("after the log", marks=pytest.mark.slow),
        "before it is told finished",
    ],
)
def test_killed_at_any_moment_it_goes_on_with_no_gap_and_no_repeated_step(
    stores: Stores, calm: Points, moment: str
) -> None:
    run_id = kill_at(moment, stores)
    run = finish(stores, run_id)
    assert points(stores, run_id) == calm
    assert not {"tags.lab.restarted", "tags.lab.continued"} & set(run.index)
    assert not list((stores.checkpoint_dir / run_id).rglob("*"))


def test_with_the_newest_checkpoint_damaged_the_one_before_is_used(stores: Stores, calm: Points) -> None:
    run_id = kill_at("after the log", stores)
    file = stores.checkpoint_dir / run_id / "last.pt"
    file.write_bytes(file.read_bytes()[:-1000])
    run = finish(stores, run_id)
    assert run["tags.lab.continued"].startswith("after epoch 3: ")
    assert points(stores, run_id) == calm


def test_another_machine_goes_on_from_what_was_uploaded_before_the_kill(
    stores: Stores, calm: Points, tmp_path: Path
) -> None:
    run_id = kill_at("after an upload", stores)
    stores.checkpoint_dir.rename(tmp_path / "gone with the machine")
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    held = [state["epoch"] for state in RunCheckpoints(tracker, tracker.attach(run_id)).load(pytest.fail)]
    assert held
    assert 1 <= held[0] <= 4
    run = finish(stores, run_id)
    assert "tags.lab.restarted" not in run.index
    assert points(stores, run_id) == calm


@pytest.mark.slow
def test_another_machine_without_any_checkpoint_starts_over(
    stores: Stores, calm: Points, tmp_path: Path
) -> None:
    run_id = kill_at("after the log", stores)  # sooner than the first upload
    stores.checkpoint_dir.rename(tmp_path / "gone with the machine")
    run = finish(stores, run_id)
    assert re.match("from the first epoch: there is no checkpoint", run["tags.lab.restarted"])
    assert points(stores, run_id) == calm


@pytest.mark.slow
def test_killed_twice(stores: Stores, calm: Points) -> None:
    run_id = kill_at("before its checkpoint", stores)
    assert kill_at("between checkpoint and log", stores, run_id) == run_id
    assert [
        state["epoch"] for state in FolderCheckpoints(stores.checkpoint_dir / run_id).load(pytest.fail)
    ] == [4, 3]
    finish(stores, run_id)
    assert points(stores, run_id) == calm


def kill_workers(progress: Progress) -> None:
    if any(running.epoch for running in progress.running.values()):  # its run is open
        for worker in forked():
            kill(worker)


@pytest.mark.slow
def test_a_trial_that_ends_its_process_every_time_fails_and_says_why(
    stores: Stores, make_grid: Callable[..., Grid]
) -> None:
    one_cell = (
        make_grid(epochs=100_000).text.replace("[0.01, 0.02]", "[0.01]").replace("[relu, tanh]", "[relu]")
    )
    result = sweep(parse_grid(one_cell, "tiny.yaml"), stores, workers=1, on_progress=kill_workers)
    assert result.states == {"failed": 1}
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert runs["status"].tolist() == ["FAILED"]
    assert runs["tags.lab.outcome"].tolist() == ["failed"]
    assert re.match(
        r"its process died every time it was tried \(3 times\), the last time by SIGKILL",
        runs["tags.lab.error"].iloc[0],
    )


@pytest.mark.slow
def test_a_disk_that_takes_no_checkpoint_fails_each_trial_plainly_and_the_others_are_tried(
    stores: Stores, make_grid: Callable[..., Grid]
) -> None:
    stores.checkpoint_dir.write_text("a file where the folder should be")
    result = sweep(make_grid(), stores, workers=1)
    assert result.states == {"failed": 4}
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert runs["status"].tolist() == ["FAILED"] * 4
    assert runs["tags.lab.error"].str.contains("cannot be written: .*Free some space").all()
