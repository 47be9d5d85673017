"""Peak memory of a worker, besides the dataset itself."""

from __future__ import annotations

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
_LIMIT = 800  # MiB


def run() -> None:
    """Sweep two trials over each dataset with one worker, and print the worker's peaks."""
    rows = [_row(name, base) for name, base in _bases()]
    show(
        "Peak memory of a worker (MiB)",
        ["", "dataset, decoded", "peak (VmHWM)", "its own", "above the dataset", "target"],
        rows,
        "Two trials of one epoch in one worker of a sweep, tracked in SQLite. Pages shared with the process that "
        "workers are forked from count in full; the worker's own memory (USS) was sampled after each event.",
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
    peak, own = (size / _MIB for size in _peaks(base))
    return [
        name,
        f"{decoded:.0f}",
        f"{peak:.0f}",
        f"{own:.0f}",
        f"{peak - decoded:.0f}",
        judged(peak - decoded <= _LIMIT, f"≤ {_LIMIT}"),
    ]


def _size(dataset: Dataset) -> int:
    splits = [split for split in (dataset.train, dataset.val, dataset.test) if split is not None]
    return sum(part.nbytes for split in splits for part in (split.images, split.labels))


def _peaks(base: dict[str, Any]) -> tuple[int, int]:
    """Return the worker's peak bytes, and the highest sample of its own."""
    grid = parse_grid(f"name: memory\nbase: {base}\ngrid:\n  lr: [0.001, 0.002]\n".replace("'", '"'))
    peaks, own = [0], [0]

    def look(_progress: Progress) -> None:
        for process in multiprocessing.active_children():
            with suppress(OSError, psutil.Error):  # it has just exited
                peaks.append(_high_water(process.pid))
                own.append(psutil.Process(process.pid).memory_full_info().uss)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = Stores(
            storage=f"sqlite:///{folder}/optuna.db",
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            artifact_dir=folder / "artifacts",
            checkpoint_dir=folder / "checkpoints",
        )
        # called at every event, the last time after the second trial has ended
        result = sweep_grid(grid, stores, workers=1, on_progress=look)
    if result.failed:
        raise RuntimeError(f"{result.failed} trials failed")
    return max(peaks), max(own)


def _high_water(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
