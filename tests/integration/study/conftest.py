"""A small real study: real SQLite stores, real worker processes, tiny nets on synthetic images."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from lab.config import Grid, parse_grid

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


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    def make(
        epochs: int = 2, more: str = "", overrides: dict[str, Any] | None = None, name: str = "tiny"
    ) -> Grid:
        return parse_grid(GRID.format(name=name, epochs=epochs, more=more), "tiny.yaml", overrides)

    return make
