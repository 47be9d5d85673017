"""Every shipped grid file expands, builds and trains a batch of each of its different nets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lab.config import Grid, TrialConfig, load_grid
from lab.data import DataInfo, describe
from lab.models import build_model

GRIDS = sorted((Path(__file__).parents[2] / "grids").glob("*.yaml"))


def info(config: TrialConfig) -> DataInfo:
    """Return what an image folder would be: the classes are the user's, the size is the config's."""
    if config.dataset == "image_folder":
        size = config.image_size or 32
        return DataInfo((3, size, size), tuple(f"class {number}" for number in range(10)))
    return describe(config)


def different_nets(grid: Grid) -> dict[str, TrialConfig]:
    configs = (grid.config(point) for point in grid.space if not grid.excluded(point))
    return {
        repr(build_model(config, info(config).shape, len(info(config).classes))): config for config in configs
    }


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_grid_trains_a_batch_of_every_net(file: Path) -> None:
    grid = load_grid(file)
    assert grid.space.size >= 12
    for config in different_nets(grid).values():
        shape, classes = info(config).shape, len(info(config).classes)
        model = build_model(config, shape, classes)
        logits = model(torch.randn(4, *shape))
        F.cross_entropy(logits, torch.randint(classes, (4,))).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_cifar10_models_is_the_reports_grid() -> None:
    grid = load_grid(next(file for file in GRIDS if file.stem == "cifar10_models"))
    assert grid.space.size == 24
    configs = [grid.config(point) for point in grid.space]
    assert {config.filters for config in configs} == {(3, 32, 64, 128)}
    assert {(config.optimizer, config.momentum) for config in configs} == {
        ("adam", None),
        ("sgd", 0.5),
        ("sgd", 0.9),
    }
    assert {config.lr for config in configs} == {0.001, 0.005}
    assert {(config.epochs, config.patience, config.monitor) for config in configs} == {
        (20, 5, "train_accuracy")
    }
