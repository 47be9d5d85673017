"""Every shipped grid file expands, builds, and trains a batch of each of its different nets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lab.config import Grid, TrialConfig, load_grid
from lab.data import DataInfo, describe
from lab.models import Summary, build_model, summarize_config
from lab.study import plan
from lab.training import Outcome

ROOT = Path(__file__).parents[2]
GRIDS = sorted((ROOT / "grids").glob("*.yaml"))
LARGE = {"scenes_ablation"}  # its nets have millions of parameters
EXPERIMENTS = """
    cifar10_models cifar10_deep svhn_width_depth svhn_efficient svhn_training svhn_transfer scenes_ablation mnist_lr
    mnist_batch_size mnist_momentum mnist_weight_decay mnist_optimizers mnist_loss mnist_depth mnist_width mnist_resnet
    mnist_best quickstart
"""


def info(config: TrialConfig) -> DataInfo:
    """Return info for an image folder, whose classes are up to the user. At 32 pixels no net takes long."""
    if config.dataset == "image_folder":
        return DataInfo((3, 32, 32), tuple(f"class {number}" for number in range(10)))
    return describe(config)


def different_nets(grid: Grid) -> dict[str, TrialConfig]:
    configs = (grid.config(point) for point in grid.space if not grid.excluded(point))
    return {f"{_summary(config).table()} {config.freeze}": config for config in configs}


def _summary(config: TrialConfig) -> Summary:
    return summarize_config(config, info(config).shape, len(info(config).classes))


def test_every_experiment_has_its_file() -> None:
    assert set(EXPERIMENTS.split()) <= {file.stem for file in GRIDS}


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_every_file_says_what_it_repeats_and_how(file: Path) -> None:
    grid = load_grid(file)
    text = file.read_text()
    assert text.startswith("# ")
    assert f"lab sweep grids/{file.name}" in text
    assert grid.name == file.stem
    assert grid.description.endswith(("?", "."))
    if file.stem not in ("quickstart", "quickstart_search", "svhn_pretrain"):
        assert re.match(r"[A-F]\. ", grid.report)
        assert grid.reported
    for claim in grid.claims:
        assert claim.outcome in ("", *Outcome)
        sides = [side for pair in claim.pairs for side in pair] or [claim.cells]
        assert all(any(side.matches(grid.space, point) for point in grid.space) for side in sides), claim.text


def slow_where_large(file: Path) -> Any:
    return pytest.param(file, marks=[pytest.mark.slow] if file.stem in LARGE else [], id=file.stem)


@pytest.mark.parametrize("file", map(slow_where_large, GRIDS))
def test_grid_plans_and_trains_a_batch_of_every_net(file: Path) -> None:
    torch.manual_seed(0)
    grid = load_grid(file)
    for config in different_nets(grid).values():
        shape, classes = info(config).shape, len(info(config).classes)
        model = build_model(config, shape, classes)
        logits = model(torch.randn(2, *shape))
        F.cross_entropy(logits, torch.randint(classes, (2,))).backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert trained
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_the_limit_of_svhn_efficient_leaves_the_large_net_out_before_training() -> None:
    cells = list(plan(load_grid(ROOT / "grids" / "svhn_efficient.yaml")))
    left_out = [cell for cell in cells if not cell.feasible]
    assert {cell.point["preset"] for cell in left_out} == {"cnn3"}
    assert all("params <= 150000 must hold, but params is 186378" in cell.reason for cell in left_out)


def test_the_scene_nets_have_the_parameters_of_the_report() -> None:
    grid = load_grid(ROOT / "grids" / "scenes_ablation.yaml")
    sizes = {}
    for point in {point["net"]: point for point in grid.space}.values():
        summary = summarize_config(grid.config(point), (3, 128, 128), 8)
        sizes[point["net"]] = summary.params + summary.buffers
    said = re.findall(
        r"^ {4}(\w+):.*# +([\d,]+)$", (ROOT / "grids" / "scenes_ablation.yaml").read_text(), re.M
    )
    assert len(said) == 11
    assert {net: sizes[net] for net, _ in said} == {net: int(count.replace(",", "")) for net, count in said}
    assert sizes["bn"] == 6_268_680


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
