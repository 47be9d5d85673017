"""A study goes on elsewhere: in another folder, with nothing but the addresses of the studies and of MLflow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.config import Grid
from lab.engines import Stores, submit, sweep
from lab.study import find_queue
from lab.tracking import connect

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 180  # seconds; a loaded machine is slow
EPOCHS = 30


@pytest.fixture
def server_url(stores: Stores, tmp_path: Path) -> Iterator[str]:
    """A real MLflow server that keeps the artifacts of its clients, on a copy of the fresh database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "server"
    home.mkdir()
    (home / "mlflow.db").write_bytes((tmp_path / "mlflow.db").read_bytes())
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
        *("--port", str(port), "--backend-store-uri", f"sqlite:///{home}/mlflow.db"),
        *("--artifacts-destination", f"{home}/artifacts"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (home / "log.txt").open("wb") as log:
        # its own session: the server is a tree of processes, and all of it has to go
        server = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while not answers(url):
            assert server.poll() is None, (home / "log.txt").read_text()
            assert time.monotonic() < end, "the MLflow server did not start"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=1).ok
    except requests.RequestException:
        return False


def start_worker(machine: Path, stores: Stores, *words: str) -> subprocess.Popen[str]:
    """Start `lab worker` in the folder `machine`, which knows nothing but two addresses."""
    (machine / "cache").mkdir(parents=True)
    return subprocess.Popen(
        [sys.executable, "-m", "lab", "worker", "--workers", "2", *words],
        cwd=machine,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "LAB_CACHE_DIR": str(machine / "cache"),
            "LAB_STORAGE": stores.storage,
            "MLFLOW_TRACKING_URI": stores.tracking_uri,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_study_goes_on_in_the_same_runs_on_another_machine(
    stores: Stores, server_url: str, make_grid: Callable[..., Grid], points: Any, tmp_path: Path
) -> None:
    sweep(make_grid(epochs=EPOCHS, name="calm"), stores, workers=2)
    shared = replace(stores, tracking_uri=server_url)
    submit(make_grid(epochs=EPOCHS), shared)
    queue = find_queue(shared.storage, "tiny")
    assert queue is not None

    first = start_worker(tmp_path / "first", shared)
    end = time.monotonic() + PATIENCE
    while sum(len(trial.intermediate_values) >= 3 for trial in queue.trials()) < 2:
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < end, "no two trials with three epochs"
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 128 + signal.SIGTERM, output
    assert {trial.state.name for trial in queue.trials()} <= {"WAITING", "COMPLETE"}
    tracker = connect(server_url)
    before = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert "KILLED" in set(before["status"])
    (tmp_path / "first").rename(tmp_path / "gone with the machine")

    second = start_worker(tmp_path / "second", shared, "--idle-exit", "1")
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, output
    assert [trial.state.name for trial in queue.trials()] == ["COMPLETE"] * 4
    after = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert set(before["run_id"]) <= set(after["run_id"])
    assert not {"tags.lab.restarted", "tags.lab.continued"} & set(
        after.columns
    )  # from their last checkpoints
    found = points(server_url, "tiny")
    assert len(found) == 4
    assert found == points(stores.tracking_uri, "calm")
