"""Every kind of write over every tracker: put twice is put once, kept as JSON it does the same, merged too."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.models import Model as ModelFile
from torch import nn

from lab.errors import TrackingError
from lab.tracking import JournaledTracker, MemoryTracker, Run, RunStatus, Tracker, connect, couriers, deliver
from lab.tracking.base import Metric
from lab.tracking.mlflow import MlflowTracker
from lab.tracking.tags import Tag
from lab.tracking.writes import (
    WRITES,
    Dataset,
    Delete,
    End,
    File,
    Metrics,
    Model,
    Origin,
    Params,
    RemoveTags,
    Tags,
    Write,
    merged,
    read_write,
)

KINDS = [kind for kind in WRITES if kind != "open"]  # which a tracker carries out


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that the module's tests share: creating one takes a second."""
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture(params=["memory", "sqlite", "journal"])
def tracker(
    request: pytest.FixtureRequest, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tracker]:
    monkeypatch.setattr(couriers, "_STOP_SECONDS", 60.0)  # a loaded machine is slow
    if request.param == "sqlite":
        yield connect(f"sqlite:///{database}/mlflow.db", database / "artifacts")
        return
    store = MemoryTracker()
    if request.param == "memory":
        yield store
        return
    yield JournaledTracker(store, tmp_path / "journal")
    assert list((tmp_path / "journal").glob("*/*")) == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Callable[[Tracker], Path]:
    """Return a model as a tracker saves it; exporting one takes seconds."""
    folders: dict[type, Path] = {}

    def save(tracker: Tracker) -> Path:
        kind = type(store_of(tracker))
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp("model") / "model"
            net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
            tracker.save_model(net, torch.zeros(2, 1, 4, 4), folders[kind])
        return folders[kind]

    return save


@pytest.fixture
def run(tracker: Tracker) -> Run:
    return open_run(tracker)


def open_run(tracker: Tracker) -> Run:
    tags = {"kept": "yes", "gone": "soon"}
    run = tracker.open_run(name="trial", experiment=tracker.experiment("writes"), tags=tags)
    run.log_text("old", "old.txt")
    run.log_params({"lr": "1e-3"})
    run.log_metrics({"loss": 1.0}, 1, timestamp=1)
    return run


def store_of(tracker: Tracker) -> Any:
    return tracker.inner if isinstance(tracker, JournaledTracker) else tracker


def writes_of(kind: str, tracker: Tracker, saved: Callable[[Tracker], Path]) -> Sequence[Write]:
    """Return some writes of a kind, which a run takes one after another."""
    if kind == "origin":
        return [Origin(open_run(tracker).run_id)]
    found: dict[str, Sequence[Write]] = {
        "params": [Params({"lr": "0.001", "depth": "2"}), Params({"depth": "3", "width": ""})],
        "metrics": [
            Metrics([Metric("loss", 0.5, 2, 5), Metric("nan", math.nan, 2, 5), Metric("up", math.inf, 2, 5)]),
            Metrics([Metric("loss", 0.25, 3, 6), Metric("params", 5.0, 0, 6)]),
        ],
        "tags": [Tags({"kept": "still", "a": "1"}), Tags({"a": "größe"})],
        "untag": [RemoveTags(["gone", "never.was"])],
        "file": [File("a/b.txt", b"first"), File("a/b.txt", b"second"), File("t.json", b"{}", table=True)],
        "delete": [Delete("old.txt"), Delete("never/was.txt")],
        "dataset": [Dataset("d", "abc", "sklearn", (1, 8, 8), ("0", "1"), {"train": 5}, "training")],
        "model": [Model(saved(tracker))],
        "end": [End(RunStatus.KILLED, 2_000_000_000_000)],
    }
    return found[kind]


def seen(tracker: Tracker, run: Run) -> str:
    """Return all that the store has of a run, but for ids."""
    if isinstance(tracker, JournaledTracker):
        tracker._couriers.flush(time.monotonic() + 60)
    store = store_of(tracker)
    record = store.record(run.run_id)
    own = (Tag.ATTEMPT, Tag.JOURNAL, Tag.INIT_FROM_RUN, Tag.NOTE)
    facts: dict[str, Any] = {
        "status": record.status,
        "end": record.end_time,
        "params": record.params,
        "tags": {name: value for name, value in record.tags.items() if name not in own},
        "origin": Tag.INIT_FROM_RUN in record.tags,
        "metrics": {name: _values(store, run.run_id, name) for name in sorted(record.metrics)},
        "datasets": store.dataset_digests(run.run_id),
        "files": {path: size for path, size in store.files(run.run_id).items() if "model" not in path},
        "model files": sum("model" in path for path in store.files(run.run_id)),
    }
    if isinstance(store, MlflowTracker):
        found = store._client.get_run(run.run_id)
        mine = f"source_run_id = '{run.run_id}'"
        models = store._client.search_logged_models([found.info.experiment_id], mine)
        facts["inputs"] = len(found.inputs.dataset_inputs)
        facts["models"] = [str(model.status) for model in models]
    return json.dumps(facts, default=sorted, sort_keys=True)


def _values(store: Any, run_id: str, metric: str) -> Any:
    """Return all values of a metric; of a real store also those that were doubled."""
    if not isinstance(store, MlflowTracker):
        return [[step, repr(value)] for step, value in store.history(run_id, metric).items()]
    return sorted(
        [m.step, m.timestamp, repr(m.value)] for m in store._client.get_metric_history(run_id, metric)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_put_twice_is_put_once(
    tracker: Tracker, run: Run, kind: str, saved: Callable[[Tracker], Path]
) -> None:
    for write in writes_of(kind, tracker, saved):
        run.write(write)
        once = seen(tracker, run)
        run.write(write)
        assert seen(tracker, run) == once
    tracker.flush(60)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_as_json_it_does_the_same(
    tracker: Tracker, run: Run, kind: str, saved: Callable[[Tracker], Path], tmp_path: Path
) -> None:
    other = open_run(tracker)
    for number, write in enumerate(writes_of(kind, tracker, saved)):
        run.write(write)
        file = tmp_path / str(number) / write.file_name if write.has_file else None
        if file is not None:
            file.parent.mkdir()
            write.save(file)
        other.write(read_write(write.kind, json.loads(json.dumps(write.payload())), file))
    assert seen(tracker, other) == seen(tracker, run)
    assert seen(tracker, run) != seen(tracker, open_run(tracker))
    tracker.flush(60)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if WRITES[kind].is_mergeable])
def test_merged_writes_do_what_single_ones_do(
    tracker: Tracker, run: Run, kind: str, saved: Callable[[Tracker], Path]
) -> None:
    other = open_run(tracker)
    writes = writes_of(kind, tracker, saved)
    assert len(writes) > 1
    for write in writes:
        run.write(write)
    other.write(merged(writes))
    assert seen(tracker, other) == seen(tracker, run)
    tracker.flush(60)


def test_params_metrics_and_tags_merged_do_what_single_ones_do(
    tracker: Tracker, run: Run, saved: Callable[[Tracker], Path]
) -> None:
    other = open_run(store_of(tracker))  # a journal merges what waits by itself
    mergeable = [kind for kind in KINDS if WRITES[kind].is_mergeable]
    writes = [each for kind in mergeable for each in writes_of(kind, tracker, saved)]
    for write in writes:
        run.write(write)
    for _ in range(2):
        other.write(merged(writes))
    assert seen(tracker, other) == seen(tracker, run)
    tracker.flush(60)


@pytest.mark.parametrize("only_missing", [False, True])
def test_a_reopened_run_keeps_its_curves(tracker: Tracker, run: Run, only_missing: bool) -> None:
    run.log_metrics({"loss": 0.5}, 2, timestamp=2)
    run.log_metrics({"fact": 5.0, "nan": math.nan}, timestamp=2)
    run.end(RunStatus.KILLED)
    seen(tracker, run)
    again = tracker.open_run(name="trial", experiment="", tags={}, run_id=run.run_id)
    later = {
        "loss": [(1, 9.0), (2, 9.0), (3, 0.25)],
        "fact": [(0, 5.0)],
        "nan": [(0, math.nan)],
        "new": [(4, 1.0)],
    }
    values = [Metric(name, value, step, 77) for name, all_ in later.items() for step, value in all_]
    again.write(Metrics([*values, Metric("fact", 6.0, 0, 78)], only_missing=only_missing))
    seen(tracker, run)
    store = store_of(tracker)
    steps = {name: [each[0] for each in _values(store, run.run_id, name)] for name in ("loss", "nan", "new")}
    assert steps == {"loss": [1, 2, 3], "nan": [0], "new": [4]}
    assert store.history(run.run_id, "loss") == {1: 1.0, 2: 0.5, 3: 0.25}
    journaled = isinstance(tracker, JournaledTracker)  # a journal has no place for the wish
    assert store.history(run.run_id, "fact") == {0: 5.0 if only_missing and not journaled else 6.0}
    again.end(RunStatus.FINISHED)
    tracker.flush(60)


@pytest.fixture
def model(database: Path, saved: Callable[[Tracker], Path], tmp_path: Path) -> tuple[Tracker, Path]:
    """A store in SQLite, and a model as it saves it, in a folder of its own."""
    store = connect(f"sqlite:///{database}/mlflow.db", database / "artifacts")
    return store, Path(shutil.copytree(saved(store), tmp_path / "model"))


def test_a_model_stays_whole_if_the_process_is_killed_while_it_is_logged(
    model: tuple[Tracker, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = model

    def killed(self: Path, *args: Any, **options: Any) -> None:
        self.write_bytes(b"")
        raise OSError("killed")

    run = open_run(store)
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(TrackingError, match="killed"):
        run.write(Model(folder))
    assert ModelFile.load(str(folder)).flavors.keys() == {"python_function", "pytorch"}


def test_a_damaged_model_in_a_journal_gives_way_to_the_next_one(
    model: tuple[Tracker, Path], tmp_path: Path
) -> None:
    """As a process of an earlier version left one that was killed while it logged the model."""
    store, folder = model
    journals, damaged = tmp_path / "journal", tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "MLmodel").write_bytes(b"")
    tracker = JournaledTracker(store, journals)
    run = open_run(tracker)
    run.write(Model(damaged))
    tracker._couriers.flush(time.monotonic() + 60)
    with pytest.raises(TrackingError, match="its MLmodel cannot be read"):
        run.end(RunStatus.KILLED)
    assert tracker.flush(60).refused == 1
    (refused,) = deliver(store, journals, retry_refused=True).refused
    assert "its MLmodel cannot be read" in refused.reason
    (run_id,) = store.find_runs(
        store.experiment("writes"), {"mlflow.runName": "trial", "lab.journal": refused.folder.name}
    )
    again = JournaledTracker(store, journals)
    other = again.open_run(name="trial", experiment="", tags={}, run_id=run_id)
    other.write(Model(folder))
    other.end(RunStatus.FINISHED)
    assert not again.flush(60)
    assert json.loads(seen(store, other))["models"] == ["READY"]
