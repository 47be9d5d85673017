"""A small study for engines: real SQLite stores, tiny nets on synthetic images."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.config import Grid, parse_grid

GRID = """
name: {name}
base: {{dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, patience: none, epochs: 2}}
grid: {{lr: [0.01, 0.02, 0.03]}}
{more}
"""


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    def make(name: str = "tiny", more: str = "", **overrides: object) -> Grid:
        return parse_grid(GRID.format(name=name, more=more), f"{name}.yaml", overrides)

    return make
