"""Statistics and digest of a dataset's pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.data.base import Split

__all__ = ["Measured", "measure"]

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Measured:
    """What a look at every pixel tells.

    Attributes:
        mean: of the training images' pixels, scaled to 0..1, per channel, float32 [C].
        std: their standard deviation; 1 for a constant channel.
        digest: 16 hex digits of the SHA-256 over all splits: names, shapes, pixels and labels.
    """

    mean: Tensor
    std: Tensor
    digest: str


def measure(splits: Iterable[tuple[str, Split | None]]) -> Measured:
    """Return statistics of the split `train` and the digest of all, by name; each image is looked at once."""
    sha = hashlib.sha256()
    counts = {name: _look(name, split, sha) for name, split in splits if split is not None}
    mean, std = _statistics(counts["train"])
    return Measured(mean, std, sha.hexdigest()[:16])


def _look(name: str, split: Split, sha: hashlib._Hash) -> Tensor:
    """Return how often each channel has each of the 256 values, int64 [C, 256]; add the split to the digest."""
    sha.update(f"{name} {(len(split), *split.shape)}\n".encode())
    counts = torch.zeros(split.shape[0], 256, dtype=torch.int64)
    starts = range(0, len(split), _BATCH)
    for images, _ in split.batches([(start, min(start + _BATCH, len(split))) for start in starts]):
        pixels = images.permute(0, 2, 3, 1).contiguous()  # no copy: this is their order in memory
        sha.update(pixels.numpy().data)
        counts += torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(3)]
        )
    sha.update(split.labels.contiguous().numpy().data)
    return counts


def _statistics(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, float32 [C], of pixels scaled to 0..1.

    They are computed from counts of the 256 values, so they are bit-for-bit identical for any number of threads.
    """
    share = counts.double() / counts.sum(1, keepdim=True)  # [C, 256]
    values = torch.arange(256, dtype=torch.float64)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]).square()).sum(1)
    flat = variance < 1e-6  # a constant channel: dividing by its deviation would give NaN
    std = torch.where(flat, 255.0, variance.sqrt())
    return (mean / 255).float(), (std / 255).float()
