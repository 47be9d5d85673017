"""How much throughput tracking, checkpoints and the rest of a trial cost, compared with the bare loop."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.common import SHARED_DATA, judged, mnist_available, register_images, show
from lab import Placement, TrialConfig, connect, train
from lab.data import Dataset, epoch_batches, load_data, shuffled_order
from lab.models import build_model
from lab.tracking import prepare
from lab.training import EpochResult, use_threads

__all__ = ["run"]

_EVALUATED = 128  # images per batch of the bare loop's validation


def run(epochs: int, images: int, only: str | None, threads: int) -> None:
    """Measure both nets and print the table."""
    configs = _configs(images, epochs + 1, only, threads)
    show(
        "Tracked training against the bare loop on the same tensors",
        ["", "bare images/s", "tracked", "kept", "in each epoch", "by CPU time", "whole run", "target"],
        [_row(name, config) for name, config in configs.items()],
        f"An epoch is training and validation; a tracked one also has log_batch (SQLite) and a checkpoint. {epochs} "
        f"epochs of each, in turns, in one process with {threads} threads, after one to warm up; medians. A busy "
        "machine disturbs CPU time least. The whole run is all epochs and everything before and after them, except "
        "MLflow's first connection.",
    )


def _configs(images: int, epochs: int, only: str | None, threads: int) -> dict[str, TrialConfig]:
    shared: dict[str, Any] = {
        "threads": threads,
        "epochs": epochs,
        "patience": None,
        "optimizer": "sgd",
        "momentum": 0.9,
    }
    configs = {}
    if mnist_available() and only != "conv5":
        configs["MNIST, filters 50,100"] = TrialConfig(
            dataset="mnist", data_dir=str(SHARED_DATA), filters=(50, 100), lr=0.01, **shared
        )
    if only != "mnist":
        name = f"conv5, {images:,} of 3x32x32"
        configs[name] = TrialConfig(dataset=register_images(images), preset="conv5", **shared)
    return configs


def _row(name: str, config: TrialConfig) -> list[str]:
    turns = _Turns(_bare_loop(config))
    with tempfile.TemporaryDirectory() as folder:
        tracker = connect(_prepared(folder), Path(folder, "artifacts"))
        placement = Placement(checkpoint_dir=Path(folder, "checkpoints"))
        started = perf_counter()
        train(config, tracker, placement=placement, on_start=turns.begin, on_epoch=turns.take)
        whole = perf_counter() - started - sum(turns.bare)
    images = len(load_data(config).train)
    bare, tracked = turns.bare[1:], turns.tracked[1:]
    cpu = [a / b for a, b in zip(turns.bare_cpu[1:], turns.tracked_cpu[1:], strict=True)]
    kept = [a / b for a, b in zip(bare, tracked, strict=True)]
    return [
        name,
        f"{images / statistics.median(bare):,.0f}",
        f"{images / statistics.median(tracked):,.0f}",
        f"{statistics.median(kept):.1%}",
        f"{min(kept):.1%}–{max(kept):.1%}",
        f"{statistics.median(cpu):.1%}",
        f"{sum(turns.bare) / whole:.1%}",
        judged(statistics.median(kept) >= 0.95, "≥ 95 %"),
    ]


def _prepared(folder: str) -> str:
    uri = f"sqlite:///{folder}/mlflow.db"
    prepare(uri)
    return uri


@dataclass
class _Turns:
    """Runs a bare epoch after every tracked one; its time does not count for the tracked run."""

    bare_epoch: Callable[[], None]
    tracked: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    tracked_cpu: list[float] = field(default_factory=list)
    bare_cpu: list[float] = field(default_factory=list)
    _since: tuple[float, float] = (0.0, 0.0)

    def begin(self, _run: object) -> None:
        self._since = (perf_counter(), process_time())

    def take(self, _result: EpochResult) -> None:
        self._note(self.tracked, self.tracked_cpu)
        with torch.random.fork_rng():  # both draw their dropout from torch's global generator
            self.bare_epoch()
        self._note(self.bare, self.bare_cpu)

    def _note(self, wall: list[float], cpu: list[float]) -> None:
        now = (perf_counter(), process_time())
        wall.append(now[0] - self._since[0])
        cpu.append(now[1] - self._since[1])
        self._since = now


def _bare_loop(config: TrialConfig) -> Callable[[], None]:
    """Return one epoch, training and validation, of a loop with lab's settings and nothing else."""
    use_threads(config)
    dataset = load_data(config)
    model = build_model(config, dataset.shape, len(dataset.classes))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum or 0.0, fused=True)
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        model.train()
        total = torch.zeros(())
        batches = epoch_batches(
            dataset.train,
            batch_size=config.batch_size,
            mean=dataset.mean,
            std=dataset.std,
            order=shuffled_order(len(dataset.train), generator, torch.device("cpu")),
        )
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach() * len(labels)
        total.item()
        _validate(model, dataset)

    return epoch


def _validate(model: torch.nn.Module, dataset: Dataset) -> float:
    model.eval()
    split, correct = dataset.val, torch.zeros((), dtype=torch.int64)
    assert split is not None
    with torch.inference_mode():
        for images, labels in epoch_batches(split, batch_size=_EVALUATED, mean=dataset.mean, std=dataset.std):
            correct += (model(images).argmax(1) == labels).sum()
    return correct.item() / len(split)
