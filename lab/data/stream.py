"""Splits whose images do not fit into memory: decoded while they are needed, by processes that work ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lab.data.loaders import Loaders

__all__ = ["StreamSplit"]


@dataclass(frozen=True, eq=False)
class StreamSplit:
    """A split whose images are decoded whenever a batch is needed; see `Split`.

    Args:
        loaders: the processes that decode, shared by all splits of a dataset.
        places: index of each image in what the loaders decode, int64 [N], on the CPU.
        labels: int64 [N]; their device is where batches go.
    """

    loaders: Loaders
    places: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, [C, H, W]."""
        return self.loaders.decoder.shape

    @property
    def device(self) -> torch.device:
        """Where the batches go."""
        return self.labels.device

    @property
    def fingerprint(self) -> str:
        """Digest of what is decoded, of how, and of the split's labels; see `Split`."""
        sha = hashlib.sha256(self.loaders.decoder.identity.encode())
        sha.update(self.places.contiguous().numpy().data)
        sha.update(self.labels.cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, bounds: Sequence[tuple[int, int]], order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of each batch; see `Split`. The order is copied to the CPU once."""
        places = self.places if order is None else self.places[order.cpu()]
        labels = self.labels if order is None else self.labels[order]
        decoded = self.loaders.load(_Places(places, bounds), pinned=self.device.type == "cuda")
        for (start, stop), images in zip(bounds, decoded, strict=True):
            # a view of [B, H, W, C]: images in memory are channels last, too
            yield images.permute(0, 3, 1, 2).to(self.device, non_blocking=True), labels[start:stop]

    def take(self, index: Tensor, labels: Tensor | None = None) -> StreamSplit:
        """Return the images at `index`; see `Split`. None is decoded."""
        places = self.places[index.cpu()]
        return StreamSplit(self.loaders, places, self.labels[index] if labels is None else labels)

    def to(self, device: torch.device) -> StreamSplit:
        """Return a split that yields its batches on `device`."""
        return replace(self, labels=self.labels.to(device))


@dataclass(frozen=True)
class _Places:
    """The places of the images of each batch, as lists made when they are needed."""

    places: Tensor
    bounds: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, number: int) -> list[int]:
        start, stop = self.bounds[number]
        found: list[int] = self.places[start:stop].tolist()
        return found
