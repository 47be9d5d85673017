"""Shared by the benchmarks: data, variants measured in turns, and the tables of results."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lab import registry
from lab.config import TrialConfig
from lab.data import DataInfo, RawData, Split, load_data, make_split
from lab.training import Trainer, cores

__all__ = [
    "SHARED_DATA",
    "Epochs",
    "judged",
    "medians",
    "mnist_available",
    "prepared",
    "register_images",
    "show",
    "take_turns",
]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
_CLASSES = tuple(f"class{number}" for number in range(10))
_CONSOLE = Console(width=118)


class _Images:
    """Noise over a grey level per class: any number of images of any shape."""

    def __init__(self, shape: tuple[int, int, int], train: int, test: int) -> None:
        self._shape, self._train, self._test = shape, train, test

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        return DataInfo(self._shape, _CLASSES)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        rng = np.random.default_rng(0)
        return RawData(self._draw(rng, self._train), self._draw(rng, self._test), _CLASSES, "benchmarks")

    def _draw(self, rng: np.random.Generator, count: int) -> Split:
        channels, height, width = self._shape
        labels = np.arange(count) % len(_CLASSES)
        images: NDArray[np.uint8] = rng.integers(0, 156, (count, height, width, channels), dtype=np.uint8)
        images += (10 * labels).astype(np.uint8)[:, None, None, None]
        return make_split(images, labels, len(_CLASSES), "benchmark images")


def register_images(train: int, test: int = 1_000, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    """Register a dataset of synthetic images in this process; return its name."""
    name = f"benchmark_{train}x{shape[0]}x{shape[1]}x{shape[2]}"
    if name not in registry.datasets:
        registry.datasets.register(name, _Images(shape, train, test))
    return name


def mnist_available() -> bool:
    return (SHARED_DATA / "MNIST").exists()


class Epochs:
    """Trains one config: each call trains one epoch."""

    def __init__(self, config: TrialConfig) -> None:
        self._epochs = Trainer(config, load_data(config)).epochs()

    def __call__(self) -> None:
        next(self._epochs)


def prepared(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 images the way tutorials keep them: normalised float32 [N, C, H, W], contiguous."""
    scaled = images.contiguous().float().div_(255)
    return scaled.sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))


def take_turns(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every variant once to warm up, then `rounds` times in turns; return what they returned, by name.

    In turns, because a machine's speed drifts and only neighbours in time are comparable.
    """
    for name, variant in variants.items():
        _CONSOLE.print(f"warming up: {name}", style="dim")
        variant()
    values: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(1, rounds + 1):
        for name, variant in variants.items():
            values[name].append(variant())
        _CONSOLE.print(f"round {number} of {rounds} done", style="dim")
    return values


def medians(values: Mapping[str, Sequence[float]], base: str) -> dict[str, tuple[float, float, float, float]]:
    """Return each variant's median, and the median, lowest and highest of its ratios to `base` round by round."""
    result = {}
    for name, own in values.items():
        ratios = [a / b for a, b in zip(own, values[base], strict=True)]
        result[name] = (statistics.median(own), statistics.median(ratios), min(ratios), max(ratios))
    return result


def judged(passed: bool, target: str) -> str:
    """Return a table cell that says whether a target was met."""
    return f"[green]{target} met[/]" if passed else f"[red]{target} missed[/]"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *notes: str) -> None:
    """Print a table, `notes` and the machine."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    _CONSOLE.print(table)
    for note in (*notes, _machine()):
        _CONSOLE.print(note, style="dim", highlight=False)


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    return (
        f"{_processor()}, {cores()} cores, {memory:.0f} GiB, load {load:.1f} at the end; Python "
        f"{platform.python_version()}, torch {torch.__version__}, MLflow {mlflow.__version__}; "
        f"{time.strftime('%Y-%m-%d %H:%M')}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
