"""A study goes on elsewhere: in another folder, with nothing but the addresses of the studies and of MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid
from lab.engines import Stores, submit, sweep
from lab.study import find_queue
from lab.tracking import connect
from tests.servers import MlflowServer

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 180  # seconds; a loaded machine is slow
EPOCHS = 30


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
    stores: Stores, server: MlflowServer, make_grid: Callable[..., Grid], points: Any, tmp_path: Path
) -> None:
    sweep(make_grid(epochs=EPOCHS, name="calm"), stores, workers=2)
    server.start()
    shared = replace(stores, tracking_uri=server.url)
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
    tracker = connect(server.url)
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
    found = points(server.url, "tiny")
    assert len(found) == 4
    assert found == points(stores.tracking_uri, "calm")
