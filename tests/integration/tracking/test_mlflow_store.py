"""What only a store on disk or on the network can get wrong."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.errors import TrackingError
from lab.tracking import RunStatus, UnavailableError, connect, prepare
from lab.tracking.mlflow import MlflowTracker
from tests.servers import dead_port

ROOT = Path(__file__).parents[3]


def _python(code: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


OPEN = """
import sys
from lab.tracking import RunStatus, connect
tracker = connect("sqlite:///store/mlflow.db")
experiment = tracker.experiment("raced")
run = tracker.open_run(name="x", experiment=experiment, tags={})
run.log_metrics({"loss": 1.0})
run.end(RunStatus.FINISHED)
"""


@pytest.mark.slow
def test_processes_may_open_a_fresh_store_at_once_and_say_nothing(tmp_path: Path) -> None:
    workers = [_python(OPEN, cwd=tmp_path) for _ in range(3)]
    assert [worker.communicate(timeout=200)[0] for worker in workers] == [""] * 3
    assert [worker.returncode for worker in workers] == [0] * 3
    tracker = connect(f"sqlite:///{tmp_path}/store/mlflow.db")
    experiment = tracker.find_experiment("raced")
    assert experiment is not None
    assert len(tracker.runs(experiment)) == 3


def test_prepare_makes_folders_and_a_database_that_readers_do_not_wait_for(tmp_path: Path) -> None:
    database = tmp_path / "a" / "b" / "mlflow.db"
    prepare(f"sqlite:///{database}")
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.fixture
def database(tmp_path: Path, fresh_databases: Path) -> str:
    """The address of an empty database, which somebody else has made."""
    shutil.copy(fresh_databases / "mlflow.db", tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_artifacts_lie_in_the_folder_given(tmp_path: Path, database: str) -> None:
    tracker = connect(database, tmp_path / "my artifacts #1")
    run = tracker.open_run(name="x", experiment=tracker.experiment("../up & away"), tags={})
    run.log_text("hello", "note.txt")
    (note,) = tmp_path.rglob("note.txt")
    assert note.relative_to(tmp_path).parts[:2] == ("my artifacts #1", "_up_away")
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("name", ["x" * 500, "图" * 200], ids=["letters", "three bytes each"])
def test_experiments_with_long_names_keep_artifacts(tmp_path: Path, database: str, name: str) -> None:
    tracker = connect(database, tmp_path / "files")
    for each in (name, name[:-1]):
        run = tracker.open_run(name="x", experiment=tracker.experiment(each), tags={})
        run.log_text("text", "a.txt")
        assert list(tracker.files(run.run_id)) == ["a.txt"]
    assert len(list((tmp_path / "files").iterdir())) == 2


def test_server_that_is_not_there_is_told_at_once_and_without_the_password() -> None:
    tracker = connect(f"http://ann:s3cret@127.0.0.1:{dead_port()}")
    begin = time.monotonic()
    with pytest.raises(
        UnavailableError, match=r"Is the server running\? Start one with .*Connection refused\)$"
    ) as caught:
        tracker.experiment("x")
    assert time.monotonic() - begin < 10
    assert "s3cret" not in str(caught.value) + tracker.uri
    assert "ann" not in tracker.uri


@pytest.mark.slow
def test_server_that_goes_away_is_told_within_seconds(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = connect(server_url)
    run = tracker.open_run(name="x", experiment=tracker.experiment("goes away"), tags={})
    # the same client, but nothing listens any more
    store = run._client._tracking_client.store  # type: ignore[attr-defined]
    creds = store.get_host_creds()
    creds.host = f"http://ann:s3cret@127.0.0.1:{dead_port()}"
    monkeypatch.setattr(store, "get_host_creds", lambda: creds)
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match=r"Logging metrics .* Is the server running") as caught:
        run.log_metrics({"loss": 1.0})
    assert time.monotonic() - begin < 60
    assert "s3cret" not in str(caught.value)


def test_run_that_was_deleted_is_a_tracking_error(database: str) -> None:
    tracker = connect(database)
    run = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={})
    tracker._client.delete_run(run.run_id)  # type: ignore[attr-defined]
    with pytest.raises(TrackingError, match=f"Logging metrics .run {run.run_id}. failed .*active"):
        run.log_metrics({"loss": 1.0})


def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, " * 100)
    with pytest.raises(TrackingError, match=r"Connecting failed at sqlite.*not a database"):
        prepare(f"sqlite:///{tmp_path}/mlflow.db")


def test_monitor_that_fails_does_not_break_the_run(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no psutil here")

    monkeypatch.setattr("lab.tracking.system_metrics._monitor_class", broken)
    tracker = connect(database)
    run = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={}, system_metrics=True)
    run.end(RunStatus.FINISHED)


def test_facts_that_a_reopened_run_has_are_not_doubled(tmp_path: Path, database: str) -> None:
    tracker = MlflowTracker(database, str(tmp_path / "artifacts"))
    run = tracker.open_run(name="x", experiment=tracker.experiment("again"), tags={})
    run.log_metrics({"params": 5.0, "test_loss": 0.5}, timestamp=1)
    again = tracker.open_run(name="x", experiment="", tags={}, run_id=run.run_id)
    again.log_metrics({"params": 5.0, "test_loss": 0.25})
    points = {
        name: [point.value for point in tracker._client.get_metric_history(run.run_id, name)]
        for name in ("params", "test_loss")
    }
    assert points == {"params": [5.0], "test_loss": [0.5, 0.25]}
