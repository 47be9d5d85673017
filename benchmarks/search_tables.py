"""The curves of every cell of a few grids, trained once and kept in files: what searches are replayed on."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.common import SHARED_DATA
from lab.config import Grid, TrialConfig, parse_grid
from lab.data import load_data
from lab.training import Trainer

__all__ = ["GRIDS", "Table", "read_table"]

_SPACE: Final = """
grid:
  lr: [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]
  optimizer: [adam, sgd]
  width: [8, 16]
  net: {plain: {activation: relu}, normed: {activation: relu, norm: batch}}
"""

#: Grid files of 48 to 96 cells, by name.
GRIDS: Final[Mapping[str, str]] = {
    "digits": "base: {dataset: digits, val_fraction: 0.2, epochs: 20, patience: 3, threads: 1}"
    f"{_SPACE}  batch_size: [16, 64]\n",
    "mnist": "base: {dataset: mnist, data_dir: DATA, train_samples: 5000, val_fraction: 0.03, epochs: 10, "
    f"patience: 3, threads: 1}}{_SPACE}",
    "svhn": "base: {dataset: image_folder, data_dir: FOLDER/svhn10k, epochs: 10, patience: 3, threads: 1}"
    f"{_SPACE}",
}


@dataclass(frozen=True)
class Table:
    """All cells of a grid, trained in full with patience.

    Attributes:
        points: the settings of each cell that vary.
        curves: validation accuracy of each cell by epoch.
        images: how many validation images there are, on which accuracies depend by chance.
        epochs: the most that a cell trains.
    """

    points: tuple[Mapping[str, Any], ...]
    curves: tuple[tuple[float, ...], ...]
    images: int
    epochs: int


def read_table(name: str, seed: int, folder: Path) -> Table:
    """Return the table of one of the `GRIDS`; the cells that `folder` does not have yet are trained, and kept there.

    Args:
        name: of the grid.
        seed: of every cell.
        folder: of the tables; what is there already is continued.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = _grid(name, folder)
    path = folder / f"{name}-{seed}.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"curves": []}
    points = [dict(point) for point in grid.space]
    for point in points[len(stored["curves"]) :]:
        curve, images = _curve(grid.config(point).model_copy(update={"seed": seed}))
        stored = {"images": images, "curves": [*stored["curves"], curve]}
        path.write_text(json.dumps(stored))
    curves = tuple(map(tuple, stored["curves"]))
    return Table(tuple(points), curves, stored["images"], grid.config(points[0]).epochs)


def _grid(name: str, folder: Path) -> Grid:
    text = GRIDS[name].replace("DATA", str(SHARED_DATA)).replace("FOLDER", str(folder.resolve()))
    if name == "svhn" and not (folder / "svhn10k").exists():
        with tarfile.open(SHARED_DATA / "svhn10k.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return parse_grid(text, f"{name}.yaml")


def _curve(config: TrialConfig) -> tuple[list[float], int]:
    """Return the validation accuracies of a trained cell, and of how many images."""
    dataset = load_data(config)
    curve = [result.metrics.get("val_accuracy", 0.0) for result in Trainer(config, dataset).epochs()]
    return curve, len(dataset.val)
