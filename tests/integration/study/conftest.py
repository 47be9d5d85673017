"""A small real study: real SQLite stores, real worker processes, tiny nets on synthetic images."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid, parse_grid
from lab.engines import Stores
from lab.study import open_storage
from lab.tracking import prepare

# one server imports what worker processes need; each is forked from it
multiprocessing.get_context("forkserver").set_forkserver_preload(["lab.engines.process"])

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


@pytest.fixture(scope="session")
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty databases to copy: making one takes MLflow seconds of migrations."""
    folder = tmp_path_factory.mktemp("databases")
    open_storage(f"sqlite:///{folder / 'optuna.db'}").engine.dispose()
    prepare(f"sqlite:///{folder / 'mlflow.db'}")
    return folder


@pytest.fixture
def stores(tmp_path: Path, fresh_databases: Path) -> Stores:
    for file in fresh_databases.glob("*.db"):
        shutil.copy(file, tmp_path)
    return Stores(
        storage=f"sqlite:///{tmp_path / 'optuna.db'}",
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        artifact_dir=tmp_path / "artifacts",
        checkpoint_dir=tmp_path / "checkpoints",
    )


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    def make(
        epochs: int = 2, more: str = "", overrides: dict[str, Any] | None = None, name: str = "tiny"
    ) -> Grid:
        return parse_grid(GRID.format(name=name, epochs=epochs, more=more), "tiny.yaml", overrides)

    return make
