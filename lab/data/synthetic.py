"""Generated images that a net can learn, the same on every machine, for tests and benchmarks."""

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
_PATCHES = 4  # coloured patches per side of the pattern that makes a class
_NOISE = 64
_OTHER = 48  # maximum share of another class in an image, of 128
_SEED = 20_240_229


class _Synthetic:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        size = _size(config)
        return DataInfo((3, size, size), _CLASSES, _TRAIN)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        rng = np.random.default_rng(_SEED)
        patterns = _patterns(rng, _size(config))
        train = _draw(rng, patterns, _TRAIN)
        test = _draw(rng, patterns, _TEST)
        return RawData(train, test, _CLASSES, "synthetic")


def _size(config: TrialConfig) -> int:
    return config.image_size or 32


def _patterns(rng: np.random.Generator, size: int) -> NDArray[np.int16]:
    patches = rng.integers(-128, 128, (len(_CLASSES), _PATCHES, _PATCHES, 3), dtype=np.int16)
    pixel = np.arange(size) * _PATCHES // size
    patterns: NDArray[np.int16] = patches[:, pixel][:, :, pixel]  # [classes, H, W, 3]
    return patterns


def _draw(rng: np.random.Generator, patterns: NDArray[np.int16], count: int) -> Split:
    """Draw `count` images, equally many per class: its pattern, shifted, mixed with another and noise.

    Integers throughout: rounding never differs between machines.
    """
    labels = np.arange(count) % len(patterns)
    images = np.empty((count, *patterns.shape[1:]), np.uint8)
    for start in range(0, count, 100):  # limits the memory that the wider integers need
        chosen = labels[start : start + 100]
        images[start : start + 100] = _vary(rng, patterns, chosen)
    return make_split(images, labels, len(patterns), "synthetic")


def _vary(rng: np.random.Generator, patterns: NDArray[np.int16], labels: NDArray[Any]) -> NDArray[np.int16]:
    """Return each label's pattern with another one showing through to some degree, plus noise."""
    others = rng.integers(0, len(patterns), len(labels))
    own, other = _move(rng, patterns, labels), _move(rng, patterns, others)  # [B, H, W, 3]
    share = rng.integers(0, _OTHER + 1, (len(labels), 1, 1, 1), dtype=np.int16)  # of 128
    noise = rng.integers(-_NOISE, _NOISE + 1, own.shape, dtype=np.int16)
    mixed = 128 + ((128 - share) * own + share * other) // 256  # half the contrast, room for the noise
    varied: NDArray[np.int16] = np.clip(mixed + noise, 0, 255)
    return varied


def _move(rng: np.random.Generator, patterns: NDArray[np.int16], labels: NDArray[Any]) -> NDArray[np.int16]:
    size = patterns.shape[1]
    down, right = (np.arange(size) + rng.integers(0, size // 2, (2, len(labels), 1))) % size  # [B, size] each
    moved: NDArray[np.int16] = patterns[labels[:, None, None], down[:, :, None], right[:, None, :]]
    return moved


SYNTHETIC = _Synthetic()
