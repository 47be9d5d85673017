"""Made-up images that a net can learn, the same on every machine: for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, Split, make_split

__all__ = ["SYNTHETIC"]

_CLASSES = tuple(f"pattern{number}" for number in range(10))
_TRAIN, _TEST = 2_000, 500
_PATCHES = 4  # a class is a grid of so many coloured patches a side
_NOISE = 64
_SEED = 20_240_229


class _Synthetic:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        size = _size(config)
        return DataInfo((3, size, size), _CLASSES)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        rng = np.random.default_rng(_SEED)
        patterns = _patterns(rng, _size(config))
        train = _draw(rng, patterns, _TRAIN)
        test = _draw(rng, patterns, _TEST)
        return RawData(train, test, _CLASSES, "synthetic")


def _size(config: TrialConfig) -> int:
    return config.image_size or 32


def _patterns(rng: np.random.Generator, size: int) -> NDArray[np.int16]:
    patches = rng.integers(0, 256, (len(_CLASSES), _PATCHES, _PATCHES, 3), dtype=np.int16)
    pixel = np.arange(size) * _PATCHES // size
    patterns: NDArray[np.int16] = patches[:, pixel][:, :, pixel]  # [classes, H, W, 3]
    return patterns


def _draw(rng: np.random.Generator, patterns: NDArray[np.int16], count: int) -> Split:
    """Draw `count` images, as many of each class: its pattern, moved, at some contrast, with noise.

    Integers throughout: no rounding that differs between machines.
    """
    labels = np.arange(count) % len(patterns)
    images = np.empty((count, *patterns.shape[1:]), np.uint8)
    for start in range(0, count, 100):  # bounds the memory of the wider numbers
        chosen = labels[start : start + 100]
        images[start : start + 100] = _vary(rng, patterns, chosen)
    return make_split(images, labels, len(patterns), "synthetic")


def _vary(rng: np.random.Generator, patterns: NDArray[np.int16], labels: NDArray[Any]) -> NDArray[np.int16]:
    size = patterns.shape[1]
    shift = rng.integers(0, size // _PATCHES, (2, len(labels), 1))
    down, right = (np.arange(size) + shift) % size  # [B, size] each
    moved = patterns[labels[:, None, None], down[:, :, None], right[:, None, :]]  # [B, H, W, 3]
    contrast = rng.integers(32, 128, (len(labels), 1, 1, 1), dtype=np.int16)
    noise = rng.integers(-_NOISE, _NOISE + 1, moved.shape, dtype=np.int16)
    return np.clip(128 + (moved - 128) * contrast // 128 + noise, 0, 255)


SYNTHETIC = _Synthetic()
