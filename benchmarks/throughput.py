"""How fast lab trains, against the loop that one writes first."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.common import (
    SHARED_DATA,
    Epochs,
    judged,
    medians,
    mnist_available,
    prepared,
    register_images,
    show,
    take_turns,
)
from lab.config import TrialConfig
from lab.data import load_data
from lab.models import build_model
from lab.training import Trainer, cores

__all__ = ["run"]

_PLAIN, _FP32, _BF16, _WORKERS = "plain PyTorch loop", "lab fp32", "lab bf16", "two lab workers, fp32"
_TARGETS = {_FP32: 1.35, _BF16: 2.3}
_PARITY_SEEDS = 3


def run(preset: str, images: int, rounds: int, parity: bool) -> None:
    """Measure all variants in turns and print the table; then the accuracies of both precisions."""
    config = _config(preset, images)
    with _workers(preset, images) as workers:
        values = take_turns(
            {
                _PLAIN: _plain_loop(config),
                _FP32: Epochs(config),
                _BF16: Epochs(config.model_copy(update={"precision": "bf16"})),
                _WORKERS: workers,
            },
            rounds,
        )
    figures = medians(values, _PLAIN)
    shares = [two / one for two, one in zip(values[_WORKERS], values[_FP32], strict=True)]
    rows = [
        [name, f"{median:,.0f}", f"{ratio:.2f}x", f"{low:.2f}–{high:.2f}", _verdict(name, ratio, shares)]
        for name, (median, ratio, low, high) in figures.items()
    ]
    show(
        f"Training throughput: {preset}, 3x32x32, batch {config.batch_size}",
        ["", "images/s", "ratio", "in each round", "target"],
        rows,
        f"{images:,} made-up images an epoch, {rounds} rounds of one epoch each, in turns, after one to warm up; "
        f"medians. One process: {cores()} threads; two workers: 1 thread each, images of both.",
        f"Two workers to one process in fp32: {statistics.median(shares):.2f} "
        f"({min(shares):.2f}–{max(shares):.2f}).",
    )
    if parity:
        _parity()


def _verdict(name: str, ratio: float, shares: list[float]) -> str:
    if name in _TARGETS:
        return judged(ratio >= _TARGETS[name], f"≥ {_TARGETS[name]}x")
    return judged(statistics.median(shares) >= 1, "≥ lab fp32") if name == _WORKERS else ""


def _config(preset: str, images: int, **values: Any) -> TrialConfig:
    return TrialConfig(
        dataset=register_images(images),
        preset=preset,
        epochs=10_000,
        patience=None,
        val_fraction=0.0,
        monitor="train_accuracy",
        **values,
    )


def _plain_loop(config: TrialConfig) -> Callable[[], float]:
    """Return one epoch of the loop of PyTorch's tutorials: default settings, nothing tuned."""
    dataset = load_data(config)
    inputs = prepared(dataset.train.images, dataset.mean, dataset.std)
    loader = DataLoader(
        TensorDataset(inputs, dataset.train.labels), batch_size=config.batch_size, shuffle=True
    )
    model = build_model(config, (3, 32, 32), len(dataset.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum or 0.0)
    criterion = nn.CrossEntropyLoss()

    def epoch() -> float:
        torch.set_num_threads(cores())
        model.train()
        running = 0.0
        started = perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
        return len(inputs) / (perf_counter() - started)

    return epoch


@contextmanager
def _workers(preset: str, images: int) -> Iterator[Callable[[], float]]:
    """Start two processes of one thread each; yield what lets both train an epoch and gives their sum."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(2)]
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # as lab's pool starts its workers
    processes = [context.Process(target=_serve, args=(pipe, preset, images)) for _, pipe in pairs]
    for process in processes:
        process.start()
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    pipes = [pipe for pipe, _ in pairs]
    for pipe in pipes:
        pipe.recv()  # it has built its model

    def epoch() -> float:
        started = perf_counter()
        for pipe in pipes:
            pipe.send(True)
        for pipe in pipes:
            pipe.recv()
        return len(pipes) * images / (perf_counter() - started)

    try:
        yield epoch
    finally:
        for pipe in pipes:
            pipe.send(False)
        for process in processes:
            process.join()


def _serve(pipe: Connection, preset: str, images: int) -> None:
    epoch = Epochs(_config(preset, images, threads=1))
    pipe.send(True)
    while pipe.recv():
        pipe.send(epoch())


def _parity() -> None:
    """Print the validation accuracies of both precisions over a few seeds."""
    name, values = "digits", {"dataset": "digits", "epochs": 12}
    if mnist_available():
        name, values = "MNIST", {"dataset": "mnist", "data_dir": str(SHARED_DATA), "epochs": 1}
    accuracies = {
        precision: [
            _accuracy({**values, "precision": precision, "seed": seed}) for seed in range(_PARITY_SEEDS)
        ]
        for precision in ("fp32", "bf16")
    }
    means = {precision: statistics.mean(found) for precision, found in accuracies.items()}
    gap = abs(means["fp32"] - means["bf16"])
    spread = max(max(found) - min(found) for found in accuracies.values())
    rows = [
        [precision, f"{means[precision]:.2%}", ", ".join(f"{value:.2%}" for value in found)]
        for precision, found in accuracies.items()
    ]
    verdict = judged(gap <= max(spread, 0.002), f"gap {gap:.2%} within the seeds' spread of {spread:.2%}:")
    show(f"Parity of bf16: {name}", ["", "val accuracy", "by seed"], rows, verdict)


def _accuracy(values: dict[str, Any]) -> float:
    config = TrialConfig(filters=(16, 32), **values)
    trainer = Trainer(config, load_data(config))
    for _ in trainer.epochs():
        pass
    return trainer.patience.best_value or 0.0
