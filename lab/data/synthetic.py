"""Generated images that a net can learn, the same on every machine, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, make_split
from lab.data.cache import mapped

__all__ = ["SYNTHETIC"]

_CLASSES = tuple(f"pattern{number}" for number in range(10))
_TRAIN, _TEST = 2_000, 500
_PATCHES = 4  # coloured patches per side of the pattern that makes a class
_NOISE = 64
_OTHER = 48  # maximum share of another class in an image, of 128
_SEED = 20_240_229
_AT_ONCE = 100  # images: limits the memory that the wider integers need
_FORMAT = 1  # of the cached array; raise it when the images change


class _Synthetic:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        size = _size(config)
        return DataInfo((3, size, size), _CLASSES, _TRAIN)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        size = _size(config)
        key = f"synthetic-{_FORMAT}-{size}"
        images = mapped("images", key, lambda: _drawn(size))
        train = make_split(images[:_TRAIN], _labels(_TRAIN), len(_CLASSES), "synthetic", f"{key} train")
        test = make_split(images[_TRAIN:], _labels(_TEST), len(_CLASSES), "synthetic", f"{key} test")
        return RawData(train, test, _CLASSES, "synthetic")


def _size(config: TrialConfig) -> int:
    return config.image_size or 32


def _patterns(rng: np.random.Generator, size: int) -> NDArray[np.int16]:
    patches = rng.integers(-128, 128, (len(_CLASSES), _PATCHES, _PATCHES, 3), dtype=np.int16)
    pixel = np.arange(size) * _PATCHES // size
    patterns: NDArray[np.int16] = patches[:, pixel][:, :, pixel]  # [classes, H, W, 3]
    return patterns


def _labels(count: int) -> NDArray[np.int64]:
    """Return the labels of `count` images, equally many per class."""
    return np.arange(count) % len(_CLASSES)


def _drawn(size: int) -> NDArray[np.uint8]:
    """Return the training images, then the test images: each its class's pattern, shifted, mixed and with noise.

    Integers throughout: rounding never differs between machines.
    """
    rng = np.random.default_rng(_SEED)
    patterns = _patterns(rng, size)
    labels = np.concatenate([_labels(_TRAIN), _labels(_TEST)])
    images = np.empty((len(labels), size, size, 3), np.uint8)
    for start in range(0, len(labels), _AT_ONCE):
        chosen = labels[start : start + _AT_ONCE]
        images[start : start + _AT_ONCE] = _vary(rng, patterns, chosen)
    return images


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
