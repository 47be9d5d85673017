"""Datasets, and the interface of the sources they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.config import TrialConfig
from lab.data.levels import Kind
from lab.errors import DataError

__all__ = ["DataInfo", "Dataset", "MemorySplit", "RawData", "Source", "Split", "images_at", "make_split"]


@dataclass(frozen=True)
class DataInfo:
    """What is known about a dataset before it is loaded.

    Attributes:
        shape: of an image, [C, H, W].
        classes: class names, indexed by label.
        train_images: number of training images over all classes, before any split; None if only loading can tell.
        has_val: whether it is known to have validation images of its own.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int | None = None
    has_val: bool = False


class Split(Protocol):
    """Images and their labels in a fixed order, wherever the images are: see `MemorySplit` and `StreamSplit`."""

    @property
    def labels(self) -> Tensor:
        """Labels, int64 [N], on `device`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, [C, H, W]."""

    @property
    def device(self) -> torch.device:
        """Where `batches` yields images and labels."""

    @property
    def fingerprint(self) -> str | None:
        """What identifies images and labels without looking at a pixel; None if that would save nothing."""

    def __len__(self) -> int:
        """Return the number of images."""

    def batches(
        self, bounds: Sequence[tuple[int, int]], order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8 [B, C, H, W], and labels, int64 [B], of each batch; they may share the split's memory.

        Args:
            bounds: for each batch, where it starts and ends in `order`.
            order: indices of images, int64 on `device`; None for the split's own order.

        Raises:
            DataError: an image cannot be read; names its file.
        """

    def take(self, index: Tensor, labels: Tensor | None = None) -> Split:
        """Return the images at `index`, int64 [K] on `device`; they are not copied.

        Args:
            index: of the images.
            labels: of the images taken, int64 [K], instead of their own.
        """

    def to(self, device: torch.device) -> Split:
        """Return a split that yields its batches on `device`."""


@dataclass(frozen=True, eq=False)
class MemorySplit:
    """A split whose images are all in memory, which it shares with the splits that it was taken from.

    Args:
        pixels: uint8 [M, C, H, W] (channels last if made by `make_split`).
        labels: of its own images, int64 [N].
        places: index of each of its images in `pixels`, int64 [N]; None if they are all of them, in order.
        identity: what `pixels` are known by without looking at them; empty if they are not.
    """

    pixels: Tensor
    labels: Tensor
    places: Tensor | None = None
    identity: str = ""

    @property
    def images(self) -> Tensor:
        """All of its images, uint8 [N, C, H, W]; copied if the split was taken from a larger one."""
        return self.pixels if self.places is None else _gather(self.pixels, self.places)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, [C, H, W]."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.pixels.device

    @property
    def fingerprint(self) -> str | None:
        """Digest of the identity, and of which images these are with which labels; None without an identity."""
        if not self.identity:
            return None
        sha = hashlib.sha256(self.identity.encode())
        for part in (self.places, self.labels):
            sha.update(b"all" if part is None else part.cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, bounds: Sequence[tuple[int, int]], order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of each batch; see `Split`."""
        places = self.places if order is None else self._places(order)
        labels = self.labels if order is None else self.labels[order]
        for start, stop in bounds:  # no name holds a batch while the next one is made
            yield self._at(slice(start, stop), places), labels[start:stop]

    def take(self, index: Tensor, labels: Tensor | None = None) -> MemorySplit:
        """Return the images at `index`, without copying one; see `Split`."""
        labels = self.labels[index] if labels is None else labels
        return MemorySplit(self.pixels, labels, self._places(index), self.identity)

    def to(self, device: torch.device) -> MemorySplit:
        """Return the split on `device`: itself if it is there, else a copy of its own images only."""
        if device == self.device:
            return self
        return MemorySplit(self.images.to(device), self.labels.to(device))

    def _at(self, part: slice, places: Tensor | None) -> Tensor:
        return self.pixels[part] if places is None else _gather(self.pixels, places[part])

    def _places(self, index: Tensor) -> Tensor:
        return index if self.places is None else self.places[index]


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
        white: the white level of each kind of image with more than 8 bits; empty if the source has none of them.
    """

    train: Split
    test: Split | None
    classes: tuple[str, ...]
    source: str
    val: Split | None = None
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    white: Mapping[Kind, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, split and on a device.

    Attributes:
        name: as in the config.
        classes: class names, indexed by label.
        train: what remains once the other splits are taken, or a sample of it.
        val: the source's own split, the fold or the `val_fraction` held out; None if that is 0.
        test: the source's own split, or the `test_fraction` held out.
        mean: per channel [C], for pixels from 0 to 1; with it, `normalise` scales images as `input_scale` asks:
            the mean of the training images for standard, 0 for unit and raw.
        std: like `mean`: the deviation of the training images (1 for a constant channel) for standard, 1 for unit,
            1/255 for raw.
        digest: 16 hex digits that change with any pixel, label or split.
        source: where the data came from: a path, or `scikit-learn`.
        notes: what users should know about how the data was read, one line each.
        white: the white level of each kind of image with more than 8 bits; empty if the source has none of them.
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
    white: Mapping[Kind, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, [C, H, W]."""
        return self.train.shape


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


def make_split(images: NDArray[Any], labels: Any, classes: int, what: str, identity: str = "") -> MemorySplit:
    """Return the split made of a source's arrays; images that are [N, H, W, C] in memory are not copied.

    Args:
        images: uint8, [N, H, W] or [N, H, W, C].
        labels: N integers from 0 to `classes` - 1.
        classes: number of classes.
        what: names the data in errors.
        identity: what the images are known by without looking at them; empty if they are not.

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
    pixels = torch.from_numpy(hwc).permute(0, 3, 1, 2)
    return MemorySplit(pixels, torch.from_numpy(numbers.copy()), identity=identity)


def images_at(split: Split, index: Sequence[int]) -> Tensor:
    """Return the images at `index`, uint8 [K, C, H, W]."""
    order = torch.tensor(index, dtype=torch.int64, device=split.device)
    return next(split.batches([(0, len(index))], order))[0]


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """Return `images[index]`, fast if the images are channels last in memory."""
    rows = images.permute(0, 2, 3, 1)  # [N, H, W, C], contiguous: index_select then copies whole images
    return rows.index_select(0, index).permute(0, 3, 1, 2)
