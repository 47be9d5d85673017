"""How fast batches are augmented: each augmentation against `random_crop`, on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import torch
from torch import Tensor

from benchmarks.common import medians, show, take_turns
from lab import registry
from lab.config import TrialConfig
from lab.data import MemorySplit, build_augmentations, build_mixing, epoch_batches

__all__ = ["run"]

_BASE = "random_crop"
_CLASSES = 10


def run(images: int, size: int, batch_size: int, rounds: int, threads: int) -> None:
    """Measure every augmentation in turns, and print the table."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, _CLASSES, (images,), generator=generator)
    split = MemorySplit(pixels.contiguous(memory_format=torch.channels_last), labels)
    names = [_BASE, *sorted({*registry.augmentations} - {_BASE})]
    variants = {"none": _epoch(split, (), batch_size)}
    variants |= {name: _epoch(split, (name,), batch_size) for name in names}
    found = medians(take_turns(variants, rounds), _BASE)
    rows = [
        [
            name,
            f"{median:,.0f}",
            f"{1e6 / median - 1e6 / found['none'][0]:.1f}",
            f"{ratio:.2f}x",
            f"{low:.2f}–{high:.2f}",
        ]
        for name, (median, ratio, low, high) in found.items()
    ]
    show(
        f"Augmentation: {images:,} images of 3x{size}x{size}, batch {batch_size}, default options",
        ["", "images/CPU s", "µs per image", "ratio", "in each round"],
        rows,
        f"{rounds} rounds of one epoch each, in turns, after one to warm up; medians; {threads} threads. Batches are "
        "normalised, but nothing is trained. Microseconds are what augmentation takes beyond that. CPU time, which a "
        "busy machine disturbs least.",
    )


def _epoch(split: MemorySplit, names: tuple[str, ...], batch_size: int) -> Callable[[], float]:
    """Return a function that makes the batches of one epoch, and returns its images per second of CPU time."""
    config = TrialConfig(augment=names)
    steps, mix = build_augmentations(config), build_mixing(config, _CLASSES)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    generator = torch.Generator().manual_seed(0)

    def epoch() -> float:
        order: Tensor = torch.randperm(len(split), generator=generator)
        started = process_time()
        batches = epoch_batches(
            split,
            batch_size=batch_size,
            mean=mean,
            std=std,
            order=order,
            augment=steps,
            mix=mix,
            augment_generator=generator,
        )
        for _ in batches:
            pass
        return len(split) / (process_time() - started)

    return epoch
