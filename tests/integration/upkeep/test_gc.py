"""`lab gc` deletes what is not needed any more, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from lab.data.cache import cache_dir, mapped, read_cache
from lab.engines import Stores
from lab.study import open_storage, open_study
from lab.tracking import RunStatus, Tracker, connect
from lab.upkeep import find_garbage, remove
from tests.servers import MlflowServer

CHECKPOINTS = ("last.pt", "spare.pt", "spare2.pt", "best.pt")
DAY = 86_400_000


class World:
    """Runs and trials of a study in all states, in `.lab` and optionally on a server."""

    def __init__(self, home: Path, server: str | None = None) -> None:
        self.home = home
        self.storage = f"sqlite:///{home}/optuna.db"
        self.uri = server or f"sqlite:///{home}/mlflow.db"
        self.stores = Stores(
            self.storage, self.uri, home / "artifacts", home / "checkpoints", home / "journal"
        )
        self.tracker: Tracker = connect(self.uri, home / "artifacts")
        self.experiment = self.tracker.experiment("tiny")
        open_study(open_storage(self.storage), "tiny", ["maximize"])
        self.study = optuna.load_study(study_name="tiny", storage=self.storage)
        self.runs: dict[str, str] = {}

    def run(
        self, name: str, status: RunStatus, trial: TrialState | None, *, days: float = 0.0, **tags: str
    ) -> str:
        """Make a run with its checkpoints, in its artifacts and here, and its trial."""
        study = {"lab.study": "tiny"} if trial is not None else {}
        tags = {"lab.kind": "trial", **study, **{f"lab.{key}": value for key, value in tags.items()}}
        run = self.tracker.open_run(name=name, experiment=self.experiment, tags=tags)
        for file in CHECKPOINTS:
            run.log_text(f"{file} of {name}", f"checkpoints/{file}")
        run.log_text("lr: 0.1", "config.yaml")
        if status is not RunStatus.RUNNING:
            run.end(status, timestamp=int(time.time() * 1000 - days * DAY) - 1)
        if trial is not None:
            self.trial(run.run_id, trial)
        self.folder(run.run_id)
        self.runs[name] = run.run_id
        return run.run_id

    def trial(self, run_id: str, state: TrialState) -> None:
        values = {"value": 1.0} if state is TrialState.COMPLETE else {}
        attributes = {"lab:cell": f"slot-{len(self.study.trials)}", "lab:run_id": run_id}
        self.study.add_trial(create_trial(state=state, user_attrs=attributes, **values))

    def folder(self, name: str) -> None:
        folder = self.home / "checkpoints" / name / "upload"
        folder.mkdir(parents=True)
        (folder.parent / "1.pt").write_text("state")
        (folder / "last.pt").write_text("state")

    def delete_run(self, run_id: str) -> None:
        self.tracker._client.delete_run(run_id)  # type: ignore[attr-defined]

    def files(self, name: str) -> set[str]:
        return {path.removeprefix("checkpoints/") for path in self.tracker.files(self.runs[name])}

    @property
    def folders(self) -> set[str]:
        names = {run_id: name for name, run_id in self.runs.items()}
        return {names.get(path.name, path.name) for path in (self.home / "checkpoints").iterdir()}


ALL = {*CHECKPOINTS, "config.yaml"}
KEPT = {
    "waiting": (RunStatus.FINISHED, TrialState.WAITING),  # its worker died after the run's end
    "running": (RunStatus.RUNNING, TrialState.RUNNING),
    "failed": (RunStatus.FAILED, TrialState.FAIL),
    "killed": (RunStatus.KILLED, TrialState.WAITING),
    "interrupted": (RunStatus.KILLED, None),  # of `lab train`
}


@pytest.fixture
def world(home: Path) -> World:
    world = World(home)
    fill(world)
    return world


def fill(world: World) -> None:
    for name, (status, state) in KEPT.items():
        world.run(name, status, state)
    world.run("complete", RunStatus.FINISHED, TrialState.COMPLETE)
    world.run("pruned", RunStatus.KILLED, TrialState.PRUNED, outcome="pruned")
    world.run("train", RunStatus.FINISHED, None)
    world.delete_run(world.run("deleted", RunStatus.FINISHED, TrialState.COMPLETE))
    world.trial("pending-key", TrialState.COMPLETE)  # the store was unreachable when it began
    world.folder("pending-key")
    world.folder("of nobody we know")
    world.run("orphan", RunStatus.KILLED, None, study="gone")  # its study may be in another database
    world.run("old", RunStatus.FINISHED, None, study="gone")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file, and a dump of databases: reading one changes its log."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                found[str(path)] = "\n".join(database.iterdump()).encode()
        elif (
            path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock")) and ".locks" not in str(path)
        ):
            found[str(path)] = path.read_bytes()
    return found


def test_a_dry_run_changes_nothing(lab: Any, world: World) -> None:
    before = contents(world.home)
    result = lab("gc", "--older-than", 0)
    assert result.exit_code == 0
    assert "Nothing was deleted yet: add --delete to do so" in result.stdout
    assert contents(world.home) == before
    for text in ("artifacts of a deleted run", "checkpoints of a finished run", "local checkpoints"):
        assert text in result.stdout
    found = json.loads(lab("gc", "--older-than", 0, "--format", "json").stdout)
    assert found["deleted"] is False
    assert found["files"] == sum(each["files"] for each in found["garbage"])
    assert contents(world.home) == before


def test_what_goes_and_what_stays(lab: Any, world: World) -> None:
    promised = json.loads(lab("gc", "--older-than", 0, "--format", "json").stdout)
    freed = json.loads(lab("gc", "--older-than", 0, "--delete", "--format", "json").stdout)
    assert freed == {**promised, "deleted": True}
    assert all(world.files(name) == ALL for name in (*KEPT, "orphan"))
    assert all(world.files(name) == {"best.pt", "config.yaml"} for name in ("complete", "pruned", "train"))
    assert world.files("deleted") == set()
    assert world.folders == {*KEPT, "orphan", "of nobody we know"}
    assert world.runs["deleted"] in set(world.tracker.deleted_runs()["run_id"])
    again = lab("gc", "--older-than", 0, "--delete")
    assert again.stdout == "Nothing to delete that is older than 0 days\n"


def test_it_goes_on_where_it_was_stopped(world: World) -> None:
    found = list(find_garbage(world.stores, days=0))
    remove(found[0], world.stores)
    remove(found[0], world.stores)  # as after an interruption
    assert list(find_garbage(world.stores, days=0)) == found[1:]
    local = next(each for each in found if each.is_local)
    remove(local, world.stores)
    remove(local, world.stores)
    assert local not in list(find_garbage(world.stores, days=0))


def test_decoded_images_go_once_nobody_has_read_them_for_long(home: Path, lab: Any) -> None:
    stores = World(home).stores
    mapped("images", "key", lambda: np.zeros((2, 8, 8, 3), np.uint8))
    (file,) = cache_dir().rglob("*.npy")
    ten_days_ago = time.time() - 10 * 86_400
    os.utime(file, (ten_days_ago, ten_days_ago))
    (found,) = find_garbage(stores, days=7)
    assert (found.kind, found.where, found.files, found.size) == (
        "cached data",
        str(file),
        1,
        file.stat().st_size,
    )
    assert list(find_garbage(stores, days=11)) == []
    assert read_cache("images", "key") is not None  # which counts as use
    assert list(find_garbage(stores, days=7)) == []
    assert lab("gc", "--older-than", 0, "--delete").exit_code == 0
    assert not file.exists()
    remove(found, stores)  # as after an interruption


def test_age_counts_from_the_end(lab: Any, home: Path) -> None:
    world = World(home)
    world.run("young", RunStatus.FINISHED, TrialState.COMPLETE)
    world.run("old", RunStatus.FINISHED, TrialState.COMPLETE, days=8)
    garbage = json.loads(lab("gc", "--format", "json").stdout)["garbage"]
    assert [(each["run"], each["kind"]) for each in garbage] == [("old", "checkpoints of a finished run")]
    assert len(json.loads(lab("gc", "--older-than", 9, "--format", "json").stdout)["garbage"]) == 0
    ago = time.time() - 8 * 86_400
    folder = home / "checkpoints" / world.runs["young"]
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (ago, ago))
    garbage = json.loads(lab("gc", "--format", "json").stdout)["garbage"]
    assert [each["kind"] for each in garbage] == ["checkpoints of a finished run", "local checkpoints"]


def test_only_of_one_study(lab: Any, world: World) -> None:
    def kinds(name: str) -> set[tuple[str, str]]:
        result = lab("gc", "--older-than", 0, "--study", name, "--format", "json")
        return {(each["study"], each["kind"]) for each in json.loads(result.stdout)["garbage"]}

    assert {study for study, _ in kinds("tiny")} == {"tiny"}
    assert kinds("gone") == {("gone", "local checkpoints"), ("gone", "checkpoints of a finished run")}
    result = lab("gc", "--study", "tinny")
    assert result.exit_code == 1
    assert "there is no study 'tinny' here, nor any run of it. Known: gone, tiny" in result.stderr


def test_a_study_that_cannot_be_asked_is_not_gone(world: World) -> None:
    (world.home / "optuna.db").unlink()
    found = [each for each in find_garbage(world.stores, days=0) if each.is_local]
    assert found == []


def test_before_anything_is_there(lab: Any, tmp_path: Path) -> None:
    assert lab("gc").stdout == "Nothing to delete that is older than 7 days\n"
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away(lab: Any) -> None:
    result = lab("gc", "--tracking-uri", "http://me:t0p-s3cret@127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no answer. Is the server running?" in result.stderr
    assert "s3cret" not in result.output


@pytest.mark.slow
def test_on_a_server_that_keeps_the_artifacts(
    lab: Callable[..., Any], home: Path, server: MlflowServer
) -> None:
    server.start()
    world = World(home, server.url)
    fill(world)
    artifacts = server.folder / "artifacts"
    before = contents(artifacts)
    assert lab("gc", "--older-than", 0, "--tracking-uri", server.url).exit_code == 0
    assert contents(artifacts) == before
    lab("gc", "--older-than", 0, "--delete", "--tracking-uri", server.url)
    assert all(world.files(name) == ALL for name in (*KEPT, "orphan"))
    assert world.files("complete") == {"best.pt", "config.yaml"}
    assert world.files("deleted") == set()
    assert not any(world.runs["deleted"] in path for path in contents(artifacts))
