"""Datasets, and the interface of the sources they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.config import TrialConfig
from lab.errors import DataError

__all__ = ["DataInfo", "Dataset", "RawData", "Source", "Split", "gather", "make_split", "take"]


@dataclass(frozen=True)
class DataInfo:
    """What is known about a dataset before it is loaded.

    Attributes:
        shape: of an image, [C, H, W].
        classes: class names, indexed by label.
        train_images: number of training images over all classes, before any split; None if only loading can tell.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 [N, C, H, W] (channels last in memory if made by `make_split`), and labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """Return the split on `device`; itself if it is already there."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class RawData:
    """What a source loads.

    Attributes:
        train: what is to be trained on, and what the splits that the source lacks are taken from.
        test: None if the source has no such split.
        classes: class names, indexed by label.
        source: where the data came from.
        val: None if the source has no such split.
        notes: what users should know about how the data was read, one line each.
        groups: the group of each training image, such as a patient, which must not be in two splits; empty for none.
    """

    train: Split
    test: Split | None
    classes: tuple[str, ...]
    source: str
    val: Split | None = None
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, split and on a device.

    Attributes:
        name: as in the config.
        classes: class names, indexed by label.
        train: what remains once the other splits are taken, or a sample of it.
        val: the source's own split, or the `val_fraction` held out; None if that is 0.
        test: the source's own split, or the `test_fraction` held out.
        mean: per channel [C], for pixels from 0 to 1; with it, `normalise` scales images as `input_scale` asks:
            the mean of the training images for standard, 0 for unit and raw.
        std: like `mean`: the deviation of the training images (1 for a constant channel) for standard, 1 for unit,
            1/255 for raw.
        digest: 16 hex digits that change with any pixel, label or split.
        source: where the data came from: a path, or `scikit-learn`.
        notes: what users should know about how the data was read, one line each.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split | None
    test: Split
    mean: Tensor
    std: Tensor
    digest: str
    source: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, [C, H, W]."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


class Source(Protocol):
    """A kind of dataset, registered by name in `lab.registry.datasets`."""

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        """Return shape and classes without loading an image.

        Raises:
            DataError: they depend on data that is missing.
        """

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return a digest of the files under `root`; optional, and called only for data that `data_dir` points at.

        Raises:
            DataError: they are missing or cannot be read.
        """

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        """Return the data in the data folder `root`, on the CPU; use the network only if `download`.

        Raises:
            DataError: the data is missing (says where it looked and how to get it) or corrupt (names the file).
        """


def make_split(images: NDArray[Any], labels: Any, classes: int, what: str) -> Split:
    """Return the split made of a source's arrays.

    Args:
        images: uint8, [N, H, W] or [N, H, W, C].
        labels: N integers from 0 to `classes` - 1.
        classes: number of classes.
        what: names the data in errors.

    Raises:
        DataError: the arrays do not have this form or do not fit each other.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"{what}: images must be uint8 [N, H, W(, C)], but got {images.dtype} {images.shape}")
    numbers = np.asarray(labels, dtype=np.int64)
    if numbers.shape != images.shape[:1]:
        raise DataError(f"{what}: {len(images)} images do not match {numbers.size} labels")
    if numbers.size == 0:
        raise DataError(f"{what}: there are no images")
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= classes:
        raise DataError(f"{what}: labels must lie in 0..{classes - 1}, but got {low}..{high}")
    # [N, H, W, C] in memory: an image's pixels are contiguous, so a gather copies whole rows, and a
    # channels_last net needs no further copy
    hwc = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
    if not hwc.flags.writeable:  # torch has no read-only tensors
        hwc = hwc.copy()
    return Split(torch.from_numpy(hwc).permute(0, 3, 1, 2), torch.from_numpy(numbers.copy()))


def gather(images: Tensor, index: Tensor) -> Tensor:
    """Return `images[index]`, fast if the images are channels last in memory."""
    rows = images.permute(0, 2, 3, 1)  # [N, H, W, C], contiguous: index_select then copies whole images
    return rows.index_select(0, index).permute(0, 3, 1, 2)


def take(split: Split, index: Tensor) -> Split:
    """Return the images and labels at `index`, int64 [K], in new memory."""
    return Split(gather(split.images, index), split.labels[index])
