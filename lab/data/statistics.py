"""Statistics and digests of a dataset's pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from lab.data.base import Split

__all__ = ["channel_statistics", "digest"]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, float32 [C], of uint8 images scaled to 0..1.

    They are computed from counts of the 256 values, so they are bit-for-bit identical for any number of threads.
    """
    counts = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])]
    )
    share = counts.double() / counts.sum(1, keepdim=True)  # [C, 256]
    values = torch.arange(256, dtype=torch.float64)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]).square()).sum(1)
    flat = variance < 1e-6  # a constant channel: dividing by its deviation would give NaN
    std = torch.where(flat, 255.0, variance.sqrt())
    return (mean / 255).float(), (std / 255).float()


def digest(splits: Iterable[tuple[str, Split | None]]) -> str:
    """Return 16 hex digits of the SHA-256 over all named splits, their shapes, pixels and labels."""
    sha = hashlib.sha256()
    for name, split in splits:
        if split is not None:
            pixels = split.images.permute(0, 2, 3, 1).contiguous()  # no copy: this is their order in memory
            sha.update(f"{name} {tuple(split.images.shape)}\n".encode())
            for array in (pixels.numpy(), split.labels.contiguous().numpy()):
                sha.update(array.data)
    return sha.hexdigest()[:16]
