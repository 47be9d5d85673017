"""A small real study: real SQLite stores, real worker processes, tiny nets on synthetic images."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lab.config import Grid, parse_grid

# one server imports what worker processes need; each is forked from it
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["lab.engines.process", "lab.tracking.mlflow"]
)

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
    server: str = request.getfixturevalue("postgres_server")
    name = f"queue_{uuid.uuid4().hex}"
    engine = sa.create_engine(
        server.replace("://", "+psycopg://") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"
