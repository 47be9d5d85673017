"""Sweeps whose MLflow server restarts, or is cut off, at random moments: nothing is missing, nothing is there twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid
from lab.engines import Stores, sweep
from lab.tracking import deliver
from lab.tracking.mlflow import MlflowTracker
from tests.servers import MlflowServer, Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EPOCHS = 60
PATIENCE = 180  # seconds; a loaded machine is slow


class Outages:
    """Lets a server be away at random moments, from `begin` to `end`; counts them."""

    def __init__(self, leave: Callable[[], None], come_back: Callable[[], None]) -> None:
        self.count = 0
        self._leave, self._come_back = leave, come_back
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._trouble)

    def begin(self, *_: object) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _trouble(self) -> None:
        chance = random.Random(4)
        while not self._over.wait(chance.uniform(0.5, 3)):
            self._leave()
            self._over.wait(chance.uniform(1, 5))
            self._come_back()
            self.count += 1


def swept(grid: Grid, stores: Stores, leave: Callable[[], None], come_back: Callable[[], None]) -> None:
    """Sweep `grid` through outages, until it is concluded; then let the rest be delivered."""
    outages = Outages(leave, come_back)
    try:
        result = sweep(grid, stores, workers=2, on_plan=outages.begin)  # planning asks the server
    finally:
        outages.end()
    assert result.states == {"complete": 4}
    assert outages.count >= 3
    store = MlflowTracker(stores.tracking_uri)
    end = time.monotonic() + PATIENCE
    while (done := deliver(store, stores.journal_dir)).left and time.monotonic() < end:
        time.sleep(1)  # what this process still has in its hands is delivered by itself
    assert (done.away, done.refused, bool(done.left)) == ("", [], False)
    again = sweep(grid, stores, workers=2)  # publishes the leaderboard, if the server was away for it
    assert (again.trouble, again.states, len(again.leaderboard)) == ("", {"complete": 4}, 4)


def test_the_server_restarts(
    stores: Stores, server: MlflowServer, make_grid: Callable[..., Grid], points: Any, tmp_path: Path
) -> None:
    sweep(make_grid(epochs=EPOCHS, name="calm"), stores, workers=2)
    server.start()
    served = replace(stores, tracking_uri=server.url, journal_dir=tmp_path / "journal")
    swept(make_grid(epochs=EPOCHS), served, server.stop, server.start)
    assert points(server.url, "tiny") == points(stores.tracking_uri, "calm")


def test_the_network_is_cut(
    stores: Stores, server: MlflowServer, make_grid: Callable[..., Grid], points: Any, tmp_path: Path
) -> None:
    sweep(make_grid(epochs=EPOCHS, name="calm"), stores, workers=2)
    server.start()
    network = Network(server.port)
    served = replace(stores, tracking_uri=network.url, journal_dir=tmp_path / "journal")
    swept(make_grid(epochs=EPOCHS), served, network.cut, network.mend)
    network.close()
    assert points(server.url, "tiny") == points(stores.tracking_uri, "calm")
