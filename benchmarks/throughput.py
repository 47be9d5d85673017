"""How fast lab trains, compared with the loop that everyone writes first."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from time import perf_counter, process_time
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
from lab.training import Trainer, use_threads

__all__ = ["run"]

_PLAIN, _FP32, _BF16, _WORKERS = "plain PyTorch loop", "lab fp32", "lab bf16", "two lab workers, fp32"
_TARGETS = {_FP32: 1.35, _BF16: 2.3}
_PARITY_SEEDS = 3
_Variant = Callable[[TrialConfig], Callable[[], object]]  # from a config to a function that trains one epoch


def run(preset: str, images: int, rounds: int, parity: bool, threads: int) -> None:
    """Measure all variants in turns and print the table, then the accuracies of both precisions."""
    lab = _config(preset, images, threads=threads)
    with ExitStack() as stack:
        served: dict[str, list[tuple[_Variant, TrialConfig]]] = {
            _PLAIN: [(_plain_loop, lab)],
            _FP32: [(Epochs, lab)],
            _BF16: [(Epochs, _config(preset, images, precision="bf16", threads=threads))],
            _WORKERS: [(Epochs, _config(preset, images, threads=1))] * 2,
        }
        cpu: dict[str, list[float]] = {name: [] for name in served}
        variants = {
            name: stack.enter_context(_served(parts, images, cpu[name])) for name, parts in served.items()
        }
        values = take_turns(variants, rounds)
    _report(f"{preset}, {images:,} images", values, cpu, threads)
    if parity:
        _parity()


def _report(
    what: str, values: Mapping[str, list[float]], cpu: Mapping[str, list[float]], threads: int
) -> None:
    shares = [two / one for two, one in zip(values[_WORKERS], values[_FP32], strict=True)]
    by_cpu = medians({name: found[1:] for name, found in cpu.items()}, _PLAIN)  # the first warms up
    rows = [
        [
            name,
            f"{median:,.0f}",
            f"{ratio:.2f}x",
            f"{low:.2f}–{high:.2f}",
            f"{by_cpu[name][0]:,.0f}",
            f"{by_cpu[name][1]:.2f}x",
            _verdict(name, ratio, shares),
        ]
        for name, (median, ratio, low, high) in medians(values, _PLAIN).items()
    ]
    show(
        f"Training throughput: {what} of 3x32x32, batch 128",
        ["", "images/s", "ratio", "in each round", "images/CPU s", "ratio", "target"],
        rows,
        f"{len(shares)} rounds of one epoch each, in turns, after one to warm up; medians. A busy machine disturbs "
        f"CPU time least. Every variant runs in its own process with {threads} threads; the two workers have 1 "
        "thread each.",
        f"Two workers relative to one process in fp32: {statistics.median(shares):.2f} "
        f"({min(shares):.2f}–{max(shares):.2f}).",
    )


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


def _plain_loop(config: TrialConfig) -> Callable[[], None]:
    """Return one epoch of the loop in PyTorch's tutorials: default settings, nothing tuned."""
    use_threads(config)  # torch's default, unless the config sets another number
    dataset = load_data(config)
    inputs = prepared(dataset.train.images, dataset.mean, dataset.std)
    loader = DataLoader(
        TensorDataset(inputs, dataset.train.labels), batch_size=config.batch_size, shuffle=True
    )
    model = build_model(config, (3, 32, 32), len(dataset.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum or 0.0)
    criterion = nn.CrossEntropyLoss()

    def epoch() -> None:
        model.train()
        running = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()

    return epoch


@contextmanager
def _served(
    parts: Sequence[tuple[_Variant, TrialConfig]], images: int, cpu: list[float]
) -> Iterator[Callable[[], float]]:
    """Start a process per part; yield a function that lets all train one epoch and returns their images per second.

    Their images per second of CPU time are appended to `cpu`. The processes are separate because what one variant
    changes in its process, such as the allocator, must not help another.
    """
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in parts]
    processes = [
        context.Process(target=_serve, args=(theirs, make, config, images))
        for (_, theirs), (make, config) in zip(pairs, parts, strict=True)
    ]
    for process in processes:
        process.start()
    pipes = [ours for ours, _ in pairs]
    for pipe in pipes:
        pipe.recv()  # once it has built its model

    def epoch() -> float:
        started = perf_counter()
        for pipe in pipes:
            pipe.send(True)
        seconds = sum(pipe.recv() for pipe in pipes)
        cpu.append(len(pipes) * images / seconds)
        return len(pipes) * images / (perf_counter() - started)

    try:
        yield epoch
    finally:
        for pipe in pipes:
            pipe.send(False)
        for process in processes:
            process.join()


def _serve(pipe: Connection, make: _Variant, config: TrialConfig, images: int) -> None:
    register_images(images)
    epoch = make(config)
    pipe.send(True)
    while pipe.recv():
        started = process_time()
        epoch()
        pipe.send(process_time() - started)


def _parity() -> None:
    """Print the validation accuracies of both precisions for a few seeds."""
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
