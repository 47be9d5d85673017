"""What every checkpoint store does, tried on each: a local folder, and a run's artifacts in every tracker."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from lab.tracking import MemoryTracker, Run, Tracker, connect
from lab.tracking.checkpoints import RunCheckpoints, TrialCheckpoints, Uploader
from lab.training import CheckpointStore, FolderCheckpoints


@dataclass
class Kept:
    """A store, and the files behind it: their names, by how new they are is for the store to say."""

    store: CheckpointStore
    reopened: Callable[[], CheckpointStore]  # as another process would
    read: Callable[[], dict[str, bytes]]
    write: Callable[[str, bytes], None]


def folder_kept(folder: Path) -> Kept:
    return Kept(
        FolderCheckpoints(folder),
        lambda: FolderCheckpoints(folder),
        lambda: {file.name: file.read_bytes() for file in folder.glob("*.pt")},
        lambda name, content: (folder / name).write_bytes(content) and None,
    )


def new_run(tracker: Tracker) -> Run:
    return tracker.open_run(name="trial", experiment=tracker.experiment(uuid.uuid4().hex), tags={})


def run_kept(tracker: Tracker, scratch: Path) -> Kept:
    run = new_run(tracker)

    def read() -> dict[str, bytes]:
        files = {
            name: tracker.download(run.run_id, f"checkpoints/{name}", scratch)
            for name in ("last.pt", "spare.pt", "spare2.pt")
        }
        return {name: file.read_bytes() for name, file in files.items() if file}

    def write(name: str, content: bytes) -> None:
        (scratch / name).write_bytes(content)
        run.log_file(scratch / name, "checkpoints")

    return Kept(RunCheckpoints(tracker, run, empty=True), lambda: RunCheckpoints(tracker, run), read, write)


def make_tracker(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Tracker:
    if kind == "memory":
        return MemoryTracker()
    if kind == "sqlite":
        return connect(request.getfixturevalue("stores").tracking_uri, tmp_path / "artifacts")
    return connect(request.getfixturevalue("server_url"))


@pytest.fixture(params=["folder", "memory", "sqlite", pytest.param("server", marks=pytest.mark.slow)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "folder":
        return folder_kept(tmp_path / "run")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return run_kept(make_tracker(request.param, request, tmp_path), scratch)


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "weights": {"a": torch.full((1000,), float(epoch))}, "rng": torch.get_rng_state()}


def epochs(store: CheckpointStore, damaged: Callable[[str], Any] = pytest.fail) -> list[int]:
    return [each["epoch"] for each in store.load(damaged)]


def test_an_empty_one_yields_nothing(kept: Kept) -> None:
    assert epochs(kept.store) == []


def test_the_newest_two_come_back_newest_first(kept: Kept) -> None:
    for epoch in range(1, 6):
        kept.store.save(state(epoch))
        assert epochs(kept.reopened()) == [epoch, epoch - 1][: min(epoch, 2)]
    assert len(kept.read()) == 2
    first = next(kept.store.load(pytest.fail))
    assert torch.equal(first["weights"]["a"], state(5)["weights"]["a"])


@pytest.mark.parametrize("damage", ["truncated", "tampered", "empty"])
def test_a_damaged_newest_is_told_and_the_one_before_used(kept: Kept, damage: str) -> None:
    kept.store.save(state(1))
    before = kept.read()
    kept.store.save(state(2))
    (newest,) = (name for name, content in kept.read().items() if content not in before.values())
    content = kept.read()[newest]
    flipped = content[:700] + bytes([content[700] ^ 1]) + content[701:]
    kept.write(newest, {"truncated": content[:-500], "tampered": flipped, "empty": b""}[damage])
    problems: list[str] = []
    again = kept.reopened()
    assert epochs(again, problems.append) == [1]
    assert len(problems) == 1
    assert newest in problems[0]
    assert "checksum" in problems[0]
    again.save(state(2))  # takes the damaged one's place, not that of the whole
    assert epochs(kept.reopened()) == [2, 1]


def test_of_nothing_but_damaged_ones_each_is_told(kept: Kept) -> None:
    kept.store.save(state(1))
    kept.store.save(state(2))
    for name in kept.read():
        kept.write(name, b"PK not really")
    problems: list[str] = []
    assert epochs(kept.reopened(), problems.append) == []
    assert len(problems) == 2
    kept.reopened().save(state(1))
    assert epochs(kept.reopened(), lambda _: None) == [1]


def test_a_process_that_has_not_looked_does_not_overwrite_the_newest(kept: Kept) -> None:
    for epoch in (1, 2, 3):
        kept.reopened().save(state(epoch))  # a new process each time
    assert epochs(kept.reopened()) == [3, 2]


@pytest.fixture(params=["memory", "sqlite", pytest.param("server", marks=pytest.mark.slow)])
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> Tracker:
    return make_tracker(request.param, request, tmp_path)


def train(trial: TrialCheckpoints, last: int) -> None:
    """Save a checkpoint after each of some epochs, and wait for its upload: a trial that ends drops what it has not."""
    upload, uploaded = trial._uploader._upload, threading.Event()

    def upload_and_tell() -> None:
        upload()
        uploaded.set()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trial._uploader, "_upload", upload_and_tell)
        for epoch in range(1, last + 1):
            uploaded.clear()
            trial.save(state(epoch))
            assert uploaded.wait(60)


def test_at_the_end_the_run_has_the_last_and_the_best(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploader, "pause", 0.0)
    run = new_run(tracker)
    trial = TrialCheckpoints(tmp_path / "run", tracker, run, fresh=True)
    train(trial, 3)
    trial.finish({"a": torch.ones(3)})
    assert tracker.files(run.run_id, "checkpoints").keys() == {"checkpoints/last.pt", "checkpoints/best.pt"}
    assert epochs(RunCheckpoints(tracker, run)) == [3]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("uploaded", [0, 1, 2, 3])
def test_who_takes_over_a_trial_that_has_nothing_left_to_train_leaves_the_last_and_the_best(
    uploaded: int, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploader, "pause", 0.0)
    run = new_run(tracker)
    first = TrialCheckpoints(tmp_path / "first", tracker, run, fresh=True)
    train(first, uploaded)
    first.leave()
    other = TrialCheckpoints(tmp_path / "other", tracker, run, fresh=False)
    found = [each["epoch"] for each in islice(other.load(pytest.fail), 1)]
    assert found == ([uploaded] if uploaded else [])
    other.finish({"a": torch.ones(3)})
    last = {"checkpoints/last.pt"} if uploaded else set()
    assert tracker.files(run.run_id, "checkpoints").keys() == {"checkpoints/best.pt", *last}
    assert epochs(RunCheckpoints(tracker, run)) == found


def test_an_upload_that_arrives_while_another_machine_goes_on_is_deleted_at_the_end(
    tracker: Tracker, tmp_path: Path
) -> None:
    run = new_run(tracker)
    first = RunCheckpoints(tracker, run, empty=True)
    other = TrialCheckpoints(tmp_path / "other", tracker, run, fresh=False)
    assert epochs(other) == []
    first.save(state(1))
    other.save(state(2))
    other.finish({"a": torch.ones(3)})
    assert tracker.files(run.run_id, "checkpoints").keys() == {"checkpoints/last.pt", "checkpoints/best.pt"}
    assert epochs(RunCheckpoints(tracker, run)) == [2]
