"""What a dataset is, and what a source of one has to give."""

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
    """What can be known of a dataset without loading it.

    Attributes:
        shape: of an image, [C, H, W].
        classes: their names, by label.
        train_images: how many the source has to train on, of all classes and before any split; None where only
            loading tells.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 [N, C, H, W] (channels last in memory where they come from `make_split`), and labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """Return the split on `device`; itself where it is there already."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class RawData:
    """What a source loads: `test` and `val` are None where the source has no split of its own."""

    train: Split
    test: Split | None
    classes: tuple[str, ...]
    source: str
    val: Split | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, split and on a device.

    Attributes:
        name: as in the config.
        classes: their names, by label.
        train: what is left after the other splits are cut off, or a sample of it.
        val: the source's own, or cut off by `val_fraction`; None where that is 0.
        test: the source's own, or cut off by `test_fraction`.
        mean: per channel [C], for pixels from 0 to 1, such that `normalise` scales them as `input_scale` asks:
            of the training images for standard, 0 for unit and raw.
        std: likewise: of the training images (1 for a channel that never changes), 1 for unit, 1/255 for raw.
        digest: 16 hex digits that change with any pixel, label or split.
        source: where the data came from: a path, or `scikit-learn`.
        notes: what a person should know of how it was read, a line each.
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
        """Of one image, [C, H, W]."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


class Source(Protocol):
    """A kind of dataset, registered by name in `lab.registry.datasets`."""

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        """Return shape and classes without loading an image.

        Raises:
            DataError: they depend on data that is not there.
        """

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return what tells the files under `root` from others; only asked of a source that `data_dir` names.

        Raises:
            DataError: they are missing or cannot be read.
        """

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        """Return the data under the data folder `root`, on the CPU; use the network only if `download`.

        Raises:
            DataError: missing (where it looked, how to get it) or corrupt (which file).
        """


def make_split(images: NDArray[Any], labels: Any, classes: int, what: str) -> Split:
    """Return the split of a source's arrays.

    Args:
        images: uint8, [N, H, W] or [N, H, W, C].
        labels: N integers from 0 to `classes` - 1.
        classes: how many there are.
        what: names the data in an error.

    Raises:
        DataError: the arrays do not fit this or each other.
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
    # [N, H, W, C] in memory: an image's pixels lie together, so a gather copies rows, and it feeds a
    # channels_last net without another copy
    hwc = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
    if not hwc.flags.writeable:  # torch has no read-only tensors
        hwc = hwc.copy()
    return Split(torch.from_numpy(hwc).permute(0, 3, 1, 2), torch.from_numpy(numbers.copy()))


def gather(images: Tensor, index: Tensor) -> Tensor:
    """Return `images[index]`, fast where the images are channels last in memory."""
    rows = images.permute(0, 2, 3, 1)  # [N, H, W, C], contiguous: index_select then copies whole images
    return rows.index_select(0, index).permute(0, 3, 1, 2)


def take(split: Split, index: Tensor) -> Split:
    """Return the images and labels at `index`, int64 [K], in new memory."""
    return Split(gather(split.images, index), split.labels[index])
