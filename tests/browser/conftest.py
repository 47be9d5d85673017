"""A real study in SQLite stores, a real MLflow server on it, and headless Chromium looking at it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from lab.config import parse_grid
from lab.engines import sweep
from lab.tracking import connect, study_page
from tests.chromium import chromium, driver, open_page
from tests.stores import stores_in

__all__ = ["chromium", "driver", "open_page"]  # fixtures

GRID = """
name: little
description: Which learning rate and activation tell the synthetic classes apart?
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 64, epochs: 3, patience: none}
grid:
  lr: [0.0001, 0.01]
  activation: [relu, tanh]
"""


@dataclass(frozen=True)
class Study:
    """A swept study, and the server that shows it."""

    url: str
    experiment: str
    parent: str
    leaderboard: pd.DataFrame

    @property
    def best(self) -> pd.Series[Any]:
        return self.leaderboard.iloc[0]

    @property
    def page(self) -> str:
        """The saved view of the study."""
        return self.url + study_page(self.experiment)

    def run(self, run_id: str, tab: str = "") -> str:
        """The address of a run's page."""
        path = f"/#/experiments/{self.experiment}/runs/{run_id}"
        return f"{self.url}{path}{tab and '/'}{tab}?workflowType=machine_learning"


@pytest.fixture(scope="session")
def study(chromium: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("little")
    stores = stores_in(folder)
    result = sweep(parse_grid(GRID, "little.yaml"), stores, workers=1)
    assert result.states == {"complete": 4}
    tracker = connect(stores.tracking_uri)
    experiment = tracker.find_experiment("little")
    assert experiment is not None
    (parent,) = tracker.find_runs(experiment, {"lab.kind": "study"})
    with _served(folder, stores.tracking_uri) as url:
        yield Study(url, experiment, parent, result.leaderboard)


@contextmanager
def _served(folder: Path, tracking_uri: str) -> Iterator[str]:
    """Run an MLflow server as `make ui` does; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", tracking_uri]
    command += ["--default-artifact-root", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "server.log"
    with log.open("wb") as output:
        # its own session, because the server is a tree of processes that must all be killed
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **quiet, "DO_NOT_TRACK": "true"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(server, url, log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # nothing has to be kept, and a clean exit takes seconds
        server.wait()


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=1).ok:
                return
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.2)
            break
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-3000:]}")
