"""A small real study: real SQLite stores, real worker processes, tiny nets on synthetic images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid, parse_grid
from lab.tracking import connect
from lab.tracking.mlflow import MlflowTracker

GRID = """
name: {name}
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: {epochs}
  batch_size: 256
  patience: none
grid:
  lr: [0.01, 0.02]
  activation: [relu, tanh]
{more}
"""


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    def make(
        epochs: int = 2, more: str = "", overrides: dict[str, Any] | None = None, name: str = "tiny"
    ) -> Grid:
        return parse_grid(GRID.format(name=name, epochs=epochs, more=more), "tiny.yaml", overrides)

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'optuna.db'}"
    address: str = request.getfixturevalue("postgres").database()
    return address


CLOCK = {"epoch_seconds", "images_per_second", "seconds"}


@pytest.fixture
def points() -> Callable[[str, str], dict[str, dict[str, list[tuple[int, float]]]]]:
    """What MLflow has on each trial of a finished study: every metric except times."""

    def read(tracking_uri: str, study: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
        tracker = connect(tracking_uri)
        runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "trial"})
        assert runs["status"].tolist() == ["FINISHED"] * len(runs)
        assert runs["name"].is_unique
        return {
            name: _points(tracking_uri, run) for name, run in zip(runs["name"], runs["run_id"], strict=True)
        }

    return read


def _points(tracking_uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    client = MlflowTracker(tracking_uri)._client
    names = {name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")}
    found = {}
    for name in names:
        history = client.get_metric_history(run_id, name)  # as logged: a repeated step is there twice
        assert len({point.step for point in history}) == len(history), f"{name} repeats a step"
        if name not in CLOCK:
            found[name] = sorted((point.step, point.value) for point in history)
    return found
