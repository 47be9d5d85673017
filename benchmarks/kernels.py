"""How much of the matrix peak training reaches, one thread: by net and precision, with what takes the time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import process_time
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import Epochs, judged, medians, register_images, show, take_turns
from lab.config import TrialConfig
from lab.data import load_data
from lab.models import summarize_config
from lab.training import Trainer

__all__ = ["run"]

_PLAIN, _SHIPPED = "plain layers", "lab"
_AIM: Final = 1.5  # times the share of the peak with plain layers
_NETS: Final[dict[str, tuple[tuple[int, int, int], dict[str, Any]]]] = {
    "conv3": ((3, 32, 32), {"preset": "conv3"}),
    "conv5": ((3, 32, 32), {"preset": "conv5"}),
    "MNIST, filters 50,100": ((1, 28, 28), {"filters": (50, 100)}),
    "mobile1": ((3, 32, 32), {"preset": "mobile1"}),
    "resnet18, 28 pixels": ((1, 28, 28), {"architecture": "resnet18", "stem": "imagenet"}),
}
_ORDER: Final = ("conv", "block", "norm", "activation", "pool", "dropout")
_KINDS: Final = {
    "conv": ("convolution",),
    "pool": ("max_pool2d", "zero_", "fill_"),
    "relu": ("threshold_backward", "clamp", "hardtanh"),
    "norm": ("batch_norm",),
    "copies": ("copy_",),
}


def run(images: int, rounds: int) -> None:
    """Measure every net in both precisions, in turns with the same net of plain layers, and print the tables."""
    torch.set_num_threads(1)
    rows, shares = [], []
    for name, (shape, values) in _NETS.items():
        for precision in ("fp32", "bf16"):
            config = TrialConfig(
                dataset=register_images(images, shape=shape),
                precision=precision,
                epochs=10_000,
                patience=None,
                val_fraction=0.0,
                monitor="train_accuracy",
                threads=1,
                **values,
            )
            rows.append(_compared(f"{name}, {precision}", config, shape, images, rounds))
            shares.append([f"{name}, {precision}", *_profiled(Epochs(config))])
    show(
        "Training with one thread, batch 128",
        ["", "images/CPU s", "plain layers", "ratio", "in each round", "of the peak", "aim"],
        rows,
        f"{rounds} rounds of an epoch of {images:,} images each, in turns, after one to warm up; medians.",
        "Plain layers: ReLU before pooling, nn.Flatten, every convolution in the trial's precision. The peak is that "
        "of a convolution of 1,024 channels in the same precision, measured before each net.",
    )
    show(
        "Where the time goes",
        ["", *_KINDS, "other"],
        shares,
        "Shares of the operators' own time in one epoch.",
    )


def _compared(
    name: str, config: TrialConfig, shape: tuple[int, int, int], images: int, rounds: int
) -> list[str]:
    peak = _peak(torch.bfloat16 if config.precision == "bf16" else torch.float32)
    work = 6 * summarize_config(config, shape, 10).mult_adds  # forward, and two products backward, of 2 flops
    variants = {_PLAIN: _rate(_with_plain_layers(config), images), _SHIPPED: _rate(Epochs(config), images)}
    found = medians(take_turns(variants, rounds), _PLAIN)
    base, (rate, ratio, low, high) = found[_PLAIN][0], found[_SHIPPED]
    return [
        name,
        f"{rate:,.0f}",
        f"{base:,.0f}",
        f"{ratio:.2f}x",
        f"{low:.2f}–{high:.2f}",
        f"{rate * work / peak:.0%}",
        judged(ratio >= _AIM, f"≥ {_AIM}x"),
    ]


def _rate(epoch: Callable[[], object], images: int) -> Callable[[], float]:
    def measured() -> float:
        started = process_time()
        epoch()
        return images / (process_time() - started)

    return measured


def _peak(dtype: torch.dtype, channels: int = 1024) -> float:
    """Return flops a second: the best of five 1x1 convolutions, which oneDNN computes as one matrix product."""
    images = torch.randn(16, channels, 8, 8).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 1, 1).to(dtype, memory_format=torch.channels_last)
    F.conv2d(images, weight)
    times = []
    for _ in range(5):
        started = process_time()
        F.conv2d(images, weight)
        times.append(process_time() - started)
    return 2 * images.numel() * channels / min(times)


def _with_plain_layers(config: TrialConfig) -> Callable[[], object]:
    """Return a function that trains one epoch of the same net, made of torch's own layers in the usual order."""
    trainer = Trainer(config, load_data(config))
    for module in trainer.model.modules():
        for plain in (nn.Conv2d, nn.Flatten):
            if isinstance(module, plain):
                module.__class__ = plain
    features = sorted(trainer.model.features.named_children(), key=lambda child: _place(child[0]))
    trainer.model.features = nn.Sequential(OrderedDict(features))
    epochs = trainer.epochs()
    return lambda: next(epochs)


def _place(layer: str) -> tuple[int, int]:
    kind = layer.rstrip("0123456789")
    return int(layer.removeprefix(kind)), _ORDER.index(kind)


def _profiled(epoch: Epochs) -> list[str]:
    epoch()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        epoch()
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    kinds = {
        kind: sum(t for key, t in times.items() if any(part in key for part in parts))
        for kind, parts in _KINDS.items()
    }
    return [f"{kinds[kind] / total:.0%}" for kind in _KINDS] + [f"{1 - sum(kinds.values()) / total:.0%}"]
