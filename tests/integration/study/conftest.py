"""A small real study: real SQLite stores, real worker processes, tiny nets on synthetic images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid, parse_grid

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
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables; SQLite's has no folder, either."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'optuna.db'}"
    address: str = request.getfixturevalue("postgres").database()
    return address


@pytest.fixture
def url(bare_url: str, fresh_databases: Path) -> str:
    """The address of a database without studies; SQLite's has its tables, which take a while to make."""
    scheme, _, file = bare_url.partition(":///")
    if scheme == "sqlite":
        Path(file).parent.mkdir()
        shutil.copy(fresh_databases / "optuna.db", file)
    return bare_url
