"""Memory of two workers of one sweep, besides the dataset itself, which they share."""

from __future__ import annotations

import math
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import SHARED_DATA, judged, mnist_available, show
from lab import Stores, TrialConfig
from lab import sweep as sweep_grid
from lab.config import parse_grid
from lab.data import Dataset, clear_cache, load_data
from lab.engines import Progress

__all__ = ["run"]

_MIB = 2**20
_LIMIT = 600  # MiB
_WORKERS = 2


def run() -> None:
    """Sweep four trials over each dataset with two workers, and print the largest figures of a worker."""
    rows = [_row(name, base) for name, base in _bases()]
    show(
        "Memory of a worker (MiB)",
        [
            "",
            "dataset",
            "peak (VmHWM)",
            "proportional (PSS)",
            "its own (USS)",
            "peak above dataset",
            "target",
        ],
        rows,
        "Four trials of one epoch in two workers of a sweep, tracked in SQLite; of each figure the larger worker's. "
        "In the peak, pages count in full that are shared with the other worker (the dataset) and with the process "
        "that both are forked from (imports). PSS counts each worker's part of them, USS none; both were sampled "
        "after each event.",
    )


def _bases() -> Iterator[tuple[str, dict[str, Any]]]:
    net: dict[str, Any] = {"filters": [50, 100], "epochs": 1}
    if mnist_available():
        yield "MNIST, filters 50,100", {"dataset": "mnist", "data_dir": str(SHARED_DATA), **net}
    yield "synthetic 3x32x32, conv5", {"dataset": "synthetic", "preset": "conv5", "epochs": 1}
    small = {"filters": [4, 8], "pool": [4, 4], "epochs": 1}
    yield "synthetic 3x224x224, small net", {"dataset": "synthetic", "image_size": 224, **small}


def _row(name: str, base: dict[str, Any]) -> list[str]:
    dataset = load_data(TrialConfig(**base))
    decoded = _size(dataset) / _MIB
    del dataset
    clear_cache()
    peak, proportional, own = (size / _MIB for size in _peaks(base))
    return [
        name,
        f"{decoded:.0f}",
        f"{peak:.0f}",
        f"{proportional:.0f}",
        f"{own:.0f}",
        f"{peak - decoded:.0f}",
        judged(peak - decoded <= _LIMIT, f"≤ {_LIMIT}"),
    ]


def _size(dataset: Dataset) -> int:
    splits = [split for split in (dataset.train, dataset.val, dataset.test) if split is not None]
    return sum(len(split) * math.prod(split.shape) for split in splits)


def _peaks(base: dict[str, Any]) -> tuple[int, int, int]:
    """Return a worker's peak bytes, and the highest samples of its part and of its own."""
    rates = "[0.001, 0.002, 0.003, 0.004]"
    grid = parse_grid(f"name: memory\nbase: {base}\ngrid:\n  lr: {rates}\n".replace("'", '"'))
    peaks, proportional, own = [0], [0], [0]

    def look(_progress: Progress) -> None:
        for process in multiprocessing.active_children():
            with suppress(OSError, psutil.Error):  # it has just exited
                peaks.append(_high_water(process.pid))
                now = psutil.Process(process.pid).memory_full_info()
                proportional.append(now.pss)
                own.append(now.uss)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = Stores(
            storage=f"sqlite:///{folder}/optuna.db",
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            artifact_dir=folder / "artifacts",
            checkpoint_dir=folder / "checkpoints",
        )
        # called at every event, the last time after the last trial has ended
        result = sweep_grid(grid, stores, workers=_WORKERS, on_progress=look)
    if result.failed:
        raise RuntimeError(f"{result.failed} trials failed")
    return max(peaks), max(proportional), max(own)


def _high_water(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
