"""A real study in SQLite stores, a real MLflow server on it, and headless Chromium looking at it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any

import pandas as pd
import pytest

from lab.config import parse_grid
from lab.engines import Stores, sweep
from lab.serve import serve_ui
from lab.serve.home import free_port
from lab.serve.listening import LOOPBACK
from lab.stopping import Stop
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
    with _served(stores) as url:
        yield Study(url, experiment, parent, result.leaderboard)


@contextmanager
def _served(stores: Stores) -> Iterator[str]:
    """Run the server of `lab ui`; yield its address."""
    stop, addresses = Stop(), Queue[str]()
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(serve_ui, stores, free_port(LOOPBACK), stop=stop, on_start=addresses.put)
        server.add_done_callback(lambda _: addresses.put(""))  # so that nobody waits for one that has failed
        try:
            yield addresses.get() or pytest.fail(str(server.exception()))
        finally:
            stop.ask()
