"""What every tracker does, tried on each of them: in memory, on SQLite, through a real server."""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lab.errors import TrackingError
from lab.pictures import log_figure
from lab.pictures.drawing import new_figure
from lab.tracking import (
    JournaledTracker,
    MemoryTracker,
    RunStatus,
    Tracker,
    connect,
    couriers,
    missing_runs,
    pending_id,
    run_page,
)
from lab.tracking.mlflow import MlflowTracker
from lab.tracking.predictions import log_predictions, read_predictions

INFINITY = float("inf")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that the module's tests share: creating one takes a second."""
    return tmp_path_factory.mktemp("sqlite")


class Settled(JournaledTracker):
    """A journaled tracker that waits, before it is read, until the store has everything."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("runs", "history", "curves", "download", "find_runs", "files", "delete_files"):
            super().__getattribute__("settle")()
        return super().__getattribute__(name)

    def settle(self) -> None:
        self._couriers.flush(time.monotonic() + 60)


def inner(tracker: Tracker) -> Tracker:
    """Return the store itself, with all that was written."""
    if isinstance(tracker, Settled):
        tracker.settle()
        return tracker.inner
    return tracker


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("server", marks=pytest.mark.slow),
        "journal+memory",
        "journal+sqlite",
    ]
)
def tracker(
    request: pytest.FixtureRequest, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tracker]:
    monkeypatch.setattr(couriers, "_STOP_SECONDS", 60.0)  # a loaded machine is slow
    kind = request.param.removeprefix("journal+")
    store = _store(kind, request, database)
    if kind == request.param:
        yield store
        return
    from lab.tracking.system_metrics import LoadMonitor

    journaled = Settled(store, tmp_path / "journal", LoadMonitor)
    yield journaled
    assert not journaled.flush(60)
    assert list((tmp_path / "journal").glob("*/*")) == []


def _store(kind: str, request: pytest.FixtureRequest, database: Path) -> Tracker:
    if kind == "memory":
        return MemoryTracker()
    if kind == "sqlite":
        return connect(f"sqlite:///{database}/new/mlflow.db", database / "artifacts")
    return connect(request.getfixturevalue("server_url"), database / "ignored")


@pytest.fixture
def experiment(tracker: Tracker) -> str:
    return tracker.experiment(f"contract {uuid.uuid4().hex}")


def open_run(tracker: Tracker, experiment: str, **options: Any) -> Any:
    return tracker.open_run(**{"name": "trial", "experiment": experiment, "tags": {}, **options})


def row(tracker: Tracker, experiment: str) -> pd.Series[Any]:
    frame = tracker.runs(experiment)
    assert len(frame) == 1
    return frame.iloc[0]


def test_experiment_is_created_once(tracker: Tracker) -> None:
    name = f"once {uuid.uuid4().hex}"
    assert tracker.find_experiment(name) is None
    identity = tracker.experiment(name)
    assert tracker.experiment(name) == identity == tracker.find_experiment(name)


def test_an_experiment_has_its_name(tracker: Tracker) -> None:
    name = f"named {uuid.uuid4().hex}"
    assert tracker.experiment_name(tracker.experiment(name)) == name
    assert tracker.experiment_name("987654321") is None


def test_a_run_is_known_by_its_record(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment, tags={"a": "b"})
    run.log_params({"lr": "1"})
    run.log_metrics({"loss": 1.5}, 1)
    run.end(RunStatus.KILLED)
    (run_id,) = row(tracker, experiment)[["run_id"]]
    record = tracker.record(run_id)
    assert (record.run_id, record.name, record.status) == (run_id, "trial", RunStatus.KILLED)
    assert (record.params["lr"], record.metrics["loss"], record.tags["a"]) == ("1", 1.5, "b")
    assert all(place.own and place.uri for place in tracker.places(run_id))
    with pytest.raises(TrackingError, match="no-such-run"):
        tracker.record("no-such-run")


def test_experiment_created_by_many_threads_is_one(tracker: Tracker) -> None:
    name = f"raced {uuid.uuid4().hex}"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tracker.experiment(name))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_deleted_experiment_says_how_to_restore_it(tracker: Tracker) -> None:
    name = f"deleted {uuid.uuid4().hex}"
    identity = tracker.experiment(name)
    if isinstance(inner(tracker), MlflowTracker):
        inner(tracker)._client.delete_experiment(identity)
    elif isinstance(inner(tracker), MemoryTracker):
        inner(tracker).delete_experiment(name)
    with pytest.raises(TrackingError, match=r"was deleted\. Restore it.*or choose another name"):
        tracker.experiment(name)
    assert tracker.find_experiment(name) is None


def test_run_keeps_what_is_logged(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment, tags={"lab.kind": "trial"}, parent_run_id="the-parent")
    run.log_params({"lr": "0.01", "augment": ""})
    run.log_metrics({"val_loss": 0.5}, step=1)
    run.log_metrics({"val_loss": 0.25}, step=2)
    run.set_tags({"lab.outcome": "completed", "quoted": 'it\'s "so"'})
    run.end(RunStatus.FINISHED)
    kept = row(tracker, experiment)
    assert (kept["run_id"], kept["name"], kept["status"]) == (run.run_id, "trial", "FINISHED")
    assert (kept["params.lr"], kept["params.augment"]) == ("0.01", "")
    assert kept["metrics.val_loss"] == 0.25
    assert kept["tags.lab.kind"] == "trial"
    assert kept["tags.mlflow.parentRunId"] == "the-parent"
    assert kept["tags.lab.outcome"] == "completed"
    assert kept["end_time"] >= kept["start_time"]
    assert tracker.history(run.run_id, "val_loss") == {1: 0.5, 2: 0.25}
    assert tracker.history(run.run_id, "unknown") == {}


def test_url_is_the_page_in_the_ui(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    served = tracker.uri.startswith("http")
    assert run.url == (tracker.uri + run_page(experiment, run.run_id) if served else None)


def test_the_experiment_of_a_run(tracker: Tracker, experiment: str) -> None:
    assert tracker.experiment_of(open_run(tracker, experiment).run_id) == experiment
    with pytest.raises(TrackingError, match="nothing"):
        tracker.experiment_of("nothing")


@pytest.mark.parametrize(
    "status", [RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED, RunStatus.SCHEDULED]
)
def test_run_ends_with_its_status_and_can_be_reopened(
    tracker: Tracker, experiment: str, status: RunStatus
) -> None:
    run = open_run(tracker, experiment, tags={"kept": "yes"})
    run.log_params({"lr": "1e-3"})
    run.log_metrics({"loss": 1.0}, step=1)
    run.end(status)
    assert row(tracker, experiment)["status"] == status
    again = open_run(tracker, experiment, name="renamed", run_id=run.run_id, tags={"added": "too"})
    running = row(tracker, experiment)
    assert (running["status"], running["name"]) == ("RUNNING", "renamed")
    assert pd.isna(running["end_time"])
    again.log_params({"lr": "0.001", "depth": "2"})  # the run's own spelling stays
    again.log_metrics({"loss": 0.5}, step=2)
    again.end(RunStatus.FINISHED)
    kept = row(tracker, experiment)
    assert (kept["params.lr"], kept["params.depth"]) == ("1e-3", "2")
    assert (kept["tags.kept"], kept["tags.added"]) == ("yes", "too")
    assert tracker.history(run.run_id, "loss") == {1: 1.0, 2: 0.5}


def test_params_logged_twice_keep_the_first_value(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    run.log_params({"lr": "1e-3"})
    run.log_params({"lr": "0.001", "depth": "3"})
    assert row(tracker, experiment)[["params.lr", "params.depth"]].tolist() == ["1e-3", "3"]


def test_tags_are_removed(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment, tags={"kept": "yes", "lab.error": "it broke"})
    run.remove_tags(["lab.error", "never.was"])
    kept = row(tracker, experiment)
    assert kept["tags.kept"] == "yes"
    assert pd.isna(kept.get("tags.lab.error"))


def test_nothing_to_log_is_no_error(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    run.log_params({})
    run.log_metrics({})
    run.log_history({})
    run.set_tags({})


def test_values_that_are_no_numbers_do_not_break_a_batch(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    run.log_metrics({"nan": math.nan, "up": INFINITY, "down": -INFINITY, "loss": 2.0}, step=3)
    assert tracker.history(run.run_id, "loss") == {3: 2.0}
    assert math.isnan(tracker.history(run.run_id, "nan")[3])
    assert tracker.history(run.run_id, "up") == {3: INFINITY}
    assert tracker.history(run.run_id, "down") == {3: -INFINITY}
    kept = row(tracker, experiment)
    assert math.isnan(kept["metrics.nan"])
    assert kept["metrics.up"] == INFINITY


def test_curves_of_many_runs_are_read_at_once(tracker: Tracker, experiment: str) -> None:
    runs = [open_run(tracker, experiment) for _ in range(3)]
    for number, run in enumerate(runs[:2]):
        run.log_history(
            {2: {"loss": 0.5 + number, "accuracy": 0.9}, 1: {"loss": math.nan}, 10: {"loss": INFINITY}}
        )
        run.log_metrics({"other": 1.0}, 1)
        run.end(RunStatus.FINISHED)
    second, first, empty = (run.run_id for run in (runs[1], runs[0], runs[2]))
    frame = tracker.curves([second, first, empty, "no-such-run"], ["loss", "accuracy", "unknown"])
    assert [str(frame[name].dtype) for name in ("step", "value")] == ["int64", "float64"]
    assert frame.drop(columns="value").values.tolist() == [
        [run_id, metric, step]
        for run_id in (second, first)
        for metric, step in (("loss", 1), ("loss", 2), ("loss", 10), ("accuracy", 2))
    ]
    assert frame["value"].fillna(-1.0).tolist() == [-1.0, 1.5, INFINITY, 0.9, -1.0, 0.5, INFINITY, 0.9]
    assert list(tracker.curves([], ["loss"])) == list(tracker.curves([first], [])) == list(frame)


@pytest.mark.slow
def test_curves_longer_than_an_answer_are_whole(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(server_url)
    experiment = store.experiment(f"long {uuid.uuid4().hex}")
    runs = [open_run(store, experiment) for _ in range(3)]
    for run in runs:
        run.log_history({step: {"loss": float(step)} for step in range(1, 6)})
    monkeypatch.setattr("lab.tracking.curves._MOST_POINTS", 4)  # so each answer may have been cut off
    frame = store.curves([run.run_id for run in runs], ["loss"])
    assert frame["value"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0] * 3


def test_history_of_more_than_a_batch(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    history = {step: {f"m{i}": float(step * i) for i in range(5)} for step in range(420)}
    run.log_history(history)
    run.log_params({f"p{i}": str(i) for i in range(150)})
    assert tracker.history(run.run_id, "m4") == {step: step * 4.0 for step in range(420)}
    assert len([name for name in tracker.runs(experiment) if name.startswith("params.")]) == 150


def test_same_values_with_the_same_timestamp_are_not_doubled(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    for _ in range(2):
        run.log_history({1: {"loss": 1.0, "nan": math.nan}, 2: {"loss": 0.5}}, timestamp=1_700_000_000_000)
    if isinstance(inner(tracker), MlflowTracker):
        assert len(inner(tracker)._client.get_metric_history(run.run_id, "loss")) == 2
    assert tracker.history(run.run_id, "loss") == {1: 1.0, 2: 0.5}


def test_facts_of_two_attempts_that_do_not_see_each_other_are_there_once(
    tracker: Tracker, experiment: str
) -> None:
    first = open_run(tracker, experiment, timestamp=1_700_000_000_000)
    store = inner(tracker)
    run_id = row(tracker, experiment)["run_id"]
    second = store.open_run(name="trial", experiment="", tags={}, run_id=run_id)
    for run in (first, second):  # both were opened while the run had none
        run.log_facts({"params": 5.0, "mult_adds": math.inf})
    second.log_metrics({"loss": 0.5}, step=1)
    assert tracker.history(run_id, "params") == {0: 5.0}
    if isinstance(store, MlflowTracker):
        for name in ("params", "mult_adds"):
            points = store._client.get_metric_history(run_id, name)
            assert [point.timestamp for point in points] == [1_700_000_000_000]


def test_artifacts_come_back_as_they_went(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    run.log_text("größe: 3\r\n", "config.yaml")
    run.log_text("deep", "a/b/c.txt")
    source = tmp_path / "last.pt"
    source.write_bytes(bytes(range(256)))
    run.log_file(source, "checkpoint")
    run.log_file(source)
    assert _fetched(tracker, run, "config.yaml", tmp_path) == "größe: 3\r\n".encode()
    assert _fetched(tracker, run, "a/b/c.txt", tmp_path) == b"deep"
    assert _fetched(tracker, run, "checkpoint/last.pt", tmp_path) == bytes(range(256))
    assert _fetched(tracker, run, "last.pt", tmp_path) == bytes(range(256))
    assert source.exists()


def _fetched(tracker: Tracker, run: Any, path: str, tmp_path: Path) -> bytes | None:
    folder = tmp_path / "fetched"
    copy = tracker.download(run.run_id, path, folder)
    assert copy in (None, folder / Path(path).name)
    return copy and copy.read_bytes()


def test_artifact_is_replaced(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    run.log_text("old, and longer", "note.txt")
    run.log_text("new", "note.txt")
    assert _fetched(tracker, run, "note.txt", tmp_path) == b"new"


def test_missing_artifact_is_none(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    assert tracker.download(run.run_id, "no.txt", tmp_path) is None
    assert tracker.download(run.run_id, "no/such/file.txt", tmp_path) is None


@pytest.mark.parametrize("path", ["../out.txt", "/etc/passwd", "a/../../b", "", "a\\..\\b"])
def test_artifact_path_stays_inside(tracker: Tracker, experiment: str, path: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    with pytest.raises(TrackingError, match="must stay inside the run's artifacts"):
        run.log_text("x", path)
    with pytest.raises(TrackingError, match="must stay inside the run's artifacts"):
        tracker.download(run.run_id, path, tmp_path)


def test_file_that_is_not_there(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    with pytest.raises(TrackingError, match=r"Storing gone\.pt .* failed .*No such file"):
        run.log_file(tmp_path / "gone.pt")


def test_an_image_is_stored_as_it_is(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    log_figure(run, "plots/empty.png", lambda: new_figure(1, 1))
    content = _fetched(tracker, run, "plots/empty.png", tmp_path)
    assert content is not None
    assert content.startswith(b"\x89PNG")
    run.log_image(b"another", "plots/empty.png")
    assert _fetched(tracker, run, "plots/empty.png", tmp_path) == b"another"


def test_predictions_come_back_as_they_were(tracker: Tracker, experiment: str, tmp_path: Path) -> None:
    run = open_run(tracker, experiment)
    assert read_predictions(tracker, run.run_id) is None
    frame = pd.DataFrame({"index": [0, 1], "label": [1, 0], "predicted": [1, 1]}, dtype="uint8")
    frame["p_0"] = np.array([0.25, math.nan], dtype="float32")
    frame.attrs["classes"] = ["ä", "b"]
    log_predictions(run, frame.head(1))
    log_predictions(run, frame)
    found = read_predictions(tracker, run.run_id)
    pd.testing.assert_frame_equal(found, frame)
    assert found is not None
    assert found.attrs == frame.attrs


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"PAR1 no more", "cannot be read"), (None, "must have the columns index, label, predicted, but has x")],
)
def test_predictions_that_are_none(
    tracker: Tracker, experiment: str, content: bytes | None, why: str
) -> None:
    run = open_run(tracker, experiment)
    if content is None:
        run.log_parquet(pd.DataFrame({"x": [1]}), "predictions.parquet")
    else:
        run.log_image(content, "predictions.parquet")
    with pytest.raises(TrackingError, match=rf"predictions\.parquet of run {run.run_id} {why}"):
        read_predictions(tracker, run.run_id)


def test_table_replaces_an_older_one(
    tracker: Tracker, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # for mlflow's own reader
    run = open_run(tracker, experiment)
    run.log_table(pd.DataFrame({"rank": [1, 2], "lr": ["0.1", "0.2"]}), "leaderboard.json")
    run = open_run(tracker, experiment, run_id=run.run_id)
    run.log_table(pd.DataFrame({"rank": [1], "value": [math.nan]}), "leaderboard.json")
    run.log_table(pd.DataFrame({"x": [1]}), "other.json")
    content = _fetched(tracker, run, "leaderboard.json", tmp_path)
    assert content is not None
    assert json.loads(content) == {"columns": ["rank", "value"], "data": [[1, None]]}
    if isinstance(inner(tracker), MlflowTracker):
        tables = json.loads(row(tracker, experiment)["tags.mlflow.loggedArtifacts"])
        assert [table["path"] for table in tables] == ["leaderboard.json", "other.json"]
        assert len(inner(tracker)._client.load_table(experiment, "leaderboard.json", [run.run_id])) == 1


def test_dataset_is_recorded(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    run.log_dataset(
        "digits",
        digest="abc123",
        source="sklearn",
        shape=(1, 8, 8),
        classes=["0", "1"],
        images={"train": 5, "test": 2},
    )
    if isinstance(inner(tracker), MlflowTracker):
        (dataset,) = inner(tracker)._client.get_run(run.run_id).inputs.dataset_inputs
        assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", "abc123")
        assert json.loads(dataset.dataset.profile)["images"] == {"train": 5, "test": 2}
        assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "training"}
    elif isinstance(inner(tracker), MemoryTracker):
        assert inner(tracker).datasets(run.run_id)["digits"]["images"] == {"train": 5, "test": 2}
    assert inner(tracker).dataset_digests(run.run_id) == {("digits", "abc123")}


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )


def test_model_loads_and_the_callers_is_left_alone(
    tracker: Tracker, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # for mlflow's own loaders
    run = open_run(tracker, experiment)
    run.log_params({"lr": "0.1"})
    net = _net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    example = torch.rand(1, 3, 8, 8)
    state = torch.get_rng_state()
    address = run.log_model(net, example)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index]
    run.end(RunStatus.FINISHED)
    batch = torch.rand(7, 3, 8, 8)
    expected = net.eval()(batch)
    for loaded in _loaded(tracker, run, address, tmp_path):
        torch.testing.assert_close(torch.as_tensor(loaded(batch)), expected)
    assert row(tracker, experiment)["status"] == "FINISHED"


def _loaded(tracker: Tracker, run: Any, address: str, tmp_path: Path) -> list[Any]:
    if isinstance(inner(tracker), MemoryTracker):
        file = tracker.download(run.run_id, "model/data/model.pt2", tmp_path)
        assert file is not None
        return [torch.export.load(file).module()]
    import mlflow

    served = mlflow.pyfunc.load_model(address)
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 3, 8, 8)
    by_run = mlflow.pytorch.load_model(f"runs:/{run.run_id}/model")
    return [mlflow.pytorch.load_model(address), by_run, lambda batch: served.predict(batch.numpy())]


def test_run_that_continues_has_one_model(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    first = run.log_model(_net(), torch.rand(2, 3, 8, 8))
    run.end(RunStatus.KILLED)
    run = open_run(tracker, experiment, run_id=run.run_id)
    second = run.log_model(_net(), torch.rand(2, 3, 8, 8))
    if isinstance(inner(tracker), MlflowTracker):
        models = [model.model_uri for model in inner(tracker)._client.search_logged_models([experiment])]
        assert len(models) == 1
        assert second in (models[0], f"runs:/{run.run_id}/model")
        assert first not in models


def test_find_runs_by_tags_oldest_first(tracker: Tracker, experiment: str) -> None:
    value = "it's"
    ids = []
    for cell in ("a", "b", "a"):
        ids.append(open_run(tracker, experiment, tags={"lab.study": value, "lab.cell": cell}).run_id)
        threading.Event().wait(0.003)  # start times are in milliseconds
    assert tracker.find_runs(experiment, {"lab.study": value}) == ids
    assert tracker.find_runs(experiment, {"lab.study": value, "lab.cell": "a"}) == [ids[0], ids[2]]
    assert tracker.find_runs(experiment, {"lab.cell": "c"}) == []
    assert tracker.find_runs(experiment, {"lab.study": "both ' and \""}) == []


def test_runs_are_ordered_by_a_metric_and_limited(tracker: Tracker, experiment: str) -> None:
    for name, value in {"nan": math.nan, "low": 0.1, "none": None, "high": 0.9, "mid": 0.5}.items():
        run = open_run(tracker, experiment, name=name, tags={"even": str(name == "mid")})
        if value is not None:
            run.log_metrics({"best value": value})
    falling = tracker.runs(experiment, order_by="best value")
    rising = tracker.runs(experiment, order_by="best value", descending=False)
    assert falling["name"].tolist()[:3] == ["high", "mid", "low"]
    assert rising["name"].tolist()[:3] == ["low", "mid", "high"]
    assert falling["name"].tolist()[3:] == rising["name"].tolist()[3:] == ["nan", "none"]
    assert tracker.runs(experiment, order_by="best value", limit=2)["name"].tolist() == ["high", "mid"]
    assert tracker.runs(experiment, tags={"even": "True"})["name"].tolist() == ["mid"]


def test_no_runs_still_have_their_columns(tracker: Tracker, experiment: str) -> None:
    frame = tracker.runs(experiment)
    assert frame.columns.tolist() == ["run_id", "name", "status", "start_time", "end_time"]
    assert frame.empty


def test_unknown_run_cannot_be_reopened(tracker: Tracker, experiment: str) -> None:
    with pytest.raises(TrackingError, match="0" * 32):
        open_run(tracker, experiment, run_id="0" * 32)


def test_system_metrics_of_a_short_run(
    tracker: Tracker, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.tracking.system_metrics._INTERVAL", 3600.0)  # however slow this machine is
    run = open_run(tracker, experiment, system_metrics=True)
    threading.Event().wait(1.1)
    run.end(RunStatus.FINISHED)
    if isinstance(inner(tracker), MlflowTracker):
        assert len(tracker.history(run.run_id, "system/cpu_utilization_percentage")) == 1
    again = open_run(tracker, experiment, system_metrics=True, run_id=run.run_id)
    again.end(RunStatus.KILLED)
    assert row(tracker, experiment)["status"] == "KILLED"


class _Unexportable(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.sum().item() > 0:  # a graph cannot depend on the values
            return images.flatten(1)
        return images.flatten(1) * 2


def test_model_that_cannot_be_exported(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    with pytest.raises(TrackingError, match="cannot be exported as a graph, so it is not logged"):
        run.log_model(_Unexportable(), torch.rand(2, 3, 8, 8))
    run.end(RunStatus.FINISHED)


def test_runs_are_read_page_after_page(
    tracker: Tracker, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.tracking.mlflow._PAGE", 2)
    ids = {open_run(tracker, experiment, name=str(i)).run_id for i in range(5)}
    assert set(tracker.runs(experiment)["run_id"]) == ids == set(tracker.find_runs(experiment, {}))
    assert len(tracker.runs(experiment, limit=3)) == 3


def test_an_attached_run_is_written_and_stays_as_it_is(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    run.end(RunStatus.KILLED)
    before = row(tracker, experiment)
    attached = tracker.attach(run.run_id)
    attached.log_metrics({"test_macro_f1": 0.5})
    attached.log_text("a,b\n", "errors/table.csv")
    after = row(tracker, experiment)
    assert (after["status"], after["end_time"]) == (before["status"], before["end_time"])
    assert after["metrics.test_macro_f1"] == 0.5


def test_attaching_to_no_run_is_an_error(tracker: Tracker) -> None:
    with pytest.raises(TrackingError, match=r"0{32}"):
        tracker.attach("0" * 32)


def test_the_origin_of_a_run_is_on_it(tracker: Tracker, experiment: str) -> None:
    origin = open_run(tracker, experiment, name="origin")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    origin.log_model(model, torch.zeros(2, 1, 4, 4))
    child = open_run(tracker, experiment, name="child")
    inner(tracker)  # nobody begins with a model that is not there yet
    child.log_origin(origin.run_id)
    tags = tracker.runs(experiment).set_index("run_id").loc[child.run_id]
    assert tags["tags.lab.init_from_run"] == origin.run_id
    if isinstance(inner(tracker), MlflowTracker):
        models = inner(tracker)._client.get_run(origin.run_id).outputs.model_outputs
        inputs = inner(tracker)._client.get_run(child.run_id).inputs.model_inputs
        assert [model.model_id for model in inputs] == [model.model_id for model in models]
        page = run_page(experiment, origin.run_id).removeprefix("/")
        assert tags["tags.mlflow.note.content"] == f"Began with the weights of [origin]({page})."


def test_a_registered_model_leads_to_its_run(tracker: Tracker, experiment: str) -> None:
    name = f"model-{uuid.uuid4().hex}"
    with pytest.raises(TrackingError, match=name):
        tracker.model_run(f"models:/{name}/1")
    if not isinstance(inner(tracker), MlflowTracker):
        return
    run = open_run(tracker, experiment)
    inner(tracker)._client.create_registered_model(name)
    inner(tracker)._client.create_model_version(name, "s3://nowhere/model", run_id=run.run_id)
    inner(tracker)._client.create_model_version(name, "s3://nowhere/model")
    inner(tracker)._client.set_registered_model_alias(name, "best", "1")
    assert tracker.model_run(f"models:/{name}/1") == tracker.model_run(f"models:/{name}@best") == run.run_id
    with pytest.raises(TrackingError, match=r"was not logged by a run"):
        tracker.model_run(f"models:/{name}/2")


def test_a_deleted_file_is_gone_and_deleting_it_again_is_nothing(
    tracker: Tracker, experiment: str, tmp_path: Path
) -> None:
    run = open_run(tracker, experiment)
    run.log_text("a", "folder/one.txt")
    run.log_text("b", "folder/two.txt")
    for _ in range(2):
        run.delete_file("folder/one.txt")
    assert tracker.download(run.run_id, "folder/one.txt", tmp_path) is None
    assert tracker.download(run.run_id, "folder/two.txt", tmp_path) is not None
    with pytest.raises(TrackingError, match="must stay inside"):
        run.delete_file("../two.txt")


def test_files_of_a_run_with_their_sizes(tracker: Tracker, experiment: str) -> None:
    run = open_run(tracker, experiment)
    assert tracker.files(run.run_id) == {}
    run.log_text("four", "top.txt")
    run.log_text("seven..", "a/b/deep.txt")
    assert tracker.files(run.run_id) == {"top.txt": 4, "a/b/deep.txt": 7}
    assert tracker.files(run.run_id, "a") == {"a/b/deep.txt": 7}
    assert tracker.files(run.run_id, "nothing") == {}
    tracker.delete_files(run.run_id, ["a/b/deep.txt", "nothing.txt"])
    assert tracker.files(run.run_id) == {"top.txt": 4}
    tracker.delete_files(run.run_id)
    tracker.delete_files(run.run_id)
    assert tracker.files(run.run_id) == {}


def test_a_deleted_run_keeps_its_files_until_they_are_deleted(tracker: Tracker, experiment: str) -> None:
    kept, gone = (open_run(tracker, experiment, tags={"lab.study": name}) for name in ("kept", "gone"))
    for run in (kept, gone):
        run.log_text("text", "config.yaml")
    gone.log_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 2, 2))
    gone.end(RunStatus.FINISHED)
    inner(tracker)  # all of it is there, before somebody deletes the run
    tracker.delete_run(gone.run_id)
    deleted = tracker.deleted_runs().set_index("run_id")
    assert kept.run_id not in deleted.index
    assert deleted.loc[gone.run_id, "tags.lab.study"] == "gone"
    assert deleted.loc[gone.run_id, "status"] == "FINISHED"
    assert gone.run_id not in set(tracker.runs(None)["run_id"])
    assert kept.run_id in set(tracker.runs(None)["run_id"])

    found = tracker.files(gone.run_id)
    assert found["config.yaml"] == 4
    assert any(path.endswith("data/model.pt2") and size > 100 for path, size in found.items())
    tracker.delete_files(gone.run_id)
    assert tracker.files(gone.run_id) == {}
    assert tracker.files(kept.run_id) == {"config.yaml": 4}
    assert gone.run_id in set(tracker.deleted_runs()["run_id"])  # its record can be restored
    kept.end(RunStatus.FINISHED)


def test_missing_runs_are_those_deleted_or_never_there(tracker: Tracker, experiment: str) -> None:
    kept, gone = (open_run(tracker, experiment, tags={"lab.journal": uuid.uuid4().hex}) for _ in range(2))
    for run in (kept, gone):
        run.end(RunStatus.FINISHED)
    store = inner(tracker)
    kept_before, gone_before = (pending_id(store.tags(run.run_id)["lab.journal"]) for run in (kept, gone))
    never, pending = "0" * 32, pending_id("key")  # purged, and of a run that is still in the journal
    tracker.delete_run(gone.run_id)
    asked = [kept.run_id, kept_before, gone.run_id, gone_before, never, pending]
    assert tracker.missing_runs(asked) == {gone.run_id, gone_before, never}
    assert tracker.missing_runs([]) == set()
    if isinstance(store, MlflowTracker):
        assert missing_runs(store._tracking_uri, asked) == {gone.run_id, gone_before, never}


def test_runs_of_a_deleted_experiment_are_deleted_runs(tracker: Tracker) -> None:
    name = f"deleted with runs {uuid.uuid4().hex}"
    identity = tracker.experiment(name)
    run = open_run(tracker, identity)
    run.log_text("text", "config.yaml")
    run.end(RunStatus.FINISHED)
    store = inner(tracker)
    if isinstance(store, MlflowTracker):
        store._client.delete_experiment(identity)
    elif isinstance(store, MemoryTracker):
        store.delete_experiment(name)
    assert run.run_id in set(tracker.deleted_runs()["run_id"])
    tracker.delete_files(run.run_id)
    assert tracker.files(run.run_id) == {}


def test_a_deleted_run_that_a_registered_model_came_from_is_not_offered(
    tracker: Tracker, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # where MLflow looks for the model of a version
    store = inner(tracker)
    if not isinstance(store, MlflowTracker):
        pytest.skip("nothing can be registered in memory")
    name = f"registered {uuid.uuid4().hex}"
    store._client.create_registered_model(name)
    by_run, by_model = (open_run(tracker, experiment) for _ in range(2))
    by_model.log_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 2, 2))
    for run in (by_run, by_model):
        run.end(RunStatus.FINISHED)
    inner(tracker)
    (model,) = store._client.search_logged_models([experiment])
    store._client.create_model_version(name, "s3://nowhere/model", by_run.run_id)
    store._client.create_model_version(name, model.model_uri, model_id=model.model_id)
    for run in (by_run, by_model):
        store._client.delete_run(run.run_id)
    assert not {by_run.run_id, by_model.run_id} & set(tracker.deleted_runs()["run_id"])


def _with_model(tracker: Tracker, experiment: str) -> str:
    """Return the id of a finished run with a model, for `register`."""
    run = open_run(tracker, experiment)
    run.log_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 2, 2))
    run.end(RunStatus.FINISHED)
    inner(tracker)
    return run.run_id


def test_a_run_is_registered_once_and_found_by_version_and_alias(tracker: Tracker, experiment: str) -> None:
    first, second = (_with_model(tracker, experiment) for _ in range(2))
    name = f'it\'s "{uuid.uuid4().hex}"'
    made = tracker.register(first, name, aliases=["champion", "old"], description="# Card")
    assert (made.name, made.version, made.is_new, made.uri) == (name, "1", True, f"models:/{name}/1")
    again = tracker.register(first, name, aliases=["champion"], description="# Newer card")
    assert (again.version, again.is_new) == ("1", False)
    other = tracker.register(second, name, aliases=["champion"])
    assert (other.version, other.is_new) == ("2", True)
    assert [tracker.model_run(f"models:/{name}{end}") for end in ("@champion", "@old", "/1", "/2")] == [
        *(second, first),
        *(first, second),
    ]
    store = inner(tracker)
    if isinstance(store, MlflowTracker):
        version = store._client.get_model_version(name, "1")
        assert version.description == "# Newer card"
        (model,) = store._client.search_logged_models([experiment], f"source_run_id = '{first}'")
        assert json.loads(model.tags["mlflow.modelVersions"])[0]["name"] == name  # the UI links them
        assert store.model_run(model.model_uri) == first


def test_what_cannot_be_registered_is_an_error(tracker: Tracker, experiment: str) -> None:
    bare = open_run(tracker, experiment).run_id
    inner(tracker)
    with pytest.raises(TrackingError, match=f"Run {bare} has no model"):
        tracker.register(bare, "bare")
    with pytest.raises(TrackingError, match="models:/bare@none"):
        tracker.model_run("models:/bare@none")
    with pytest.raises(TrackingError, match="models:/bare/1"):
        tracker.model_run("models:/bare/1")
    wrong = {"a b": "only letters, digits, _ and -", "Latest": "MLflow's own", "v3": "MLflow's own"}
    for alias, message in wrong.items():
        with pytest.raises(TrackingError, match=message):
            tracker.register(bare, "bare", aliases=[alias])
    if isinstance(inner(tracker), MlflowTracker):
        run_id = _with_model(tracker, experiment)
        with pytest.raises(TrackingError, match="Names cannot contain '/' or ':'"):
            tracker.register(run_id, "a/b")
        with pytest.raises(TrackingError, match="models:/bare names no version: give models:/NAME/VERSION"):
            tracker.model_run("models:/bare")
