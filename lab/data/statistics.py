"""The numbers that describe a dataset's pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from lab.data.base import Split

__all__ = ["channel_statistics", "digest"]

_PIXELS_AT_ONCE = 1 << 22  # bounds the int32 copies to 16 MB a piece


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, float32 [C], of uint8 images taken as 0 to 1.

    The sums are of integers, so the result is the same to the last bit whatever the thread count.
    """
    count, channels, height, width = images.shape
    total = torch.zeros(channels, dtype=torch.int64)
    squares = torch.zeros(channels, dtype=torch.int64)
    for chunk in torch.split(images, max(1, _PIXELS_AT_ONCE // (channels * height * width))):
        values = chunk.to(torch.int32)
        total += values.sum((0, 2, 3))
        squares += values.square_().sum((0, 2, 3))
    pixels = count * height * width
    mean = total.double() / pixels
    variance = (squares.double() / pixels - mean.square()).clamp_(min=0)
    flat = variance < 1e-6  # a channel that never changes: dividing by its deviation would give NaN
    std = torch.where(flat, 255.0, variance.sqrt())
    return (mean / 255).float(), (std / 255).float()


def digest(splits: Iterable[tuple[str, Split | None]]) -> str:
    """Return 16 hex digits of the SHA-256 over all named splits, their shapes, pixels and labels."""
    sha = hashlib.sha256()
    for name, split in splits:
        if split is not None:
            pixels = split.images.permute(0, 2, 3, 1).contiguous()  # no copy: they lie so in memory
            sha.update(f"{name} {tuple(split.images.shape)}\n".encode())
            for array in (pixels.numpy(), split.labels.contiguous().numpy()):
                sha.update(array.data)
    return sha.hexdigest()[:16]
