"""Augmentations that mix each image with the one before it in the batch, and their labels in proportion.

They come last, after normalisation: mixing before it would give the same, but rounded. The batch is shuffled, so the
image before is as good as any other; the first image is mixed with the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data.augment.pixels import channels_last, to_device_of

__all__ = ["Mixing", "cutmix", "mix", "mixup"]

#: Takes normalised images, float [B, C, H, W], the share of each class in their labels, float [B, classes], and the
#: CPU generator to draw from; returns mixed images and shares, in new memory.
Mixing: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def mix(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, mixings: Sequence[Mixing], classes: int
) -> tuple[Tensor, Tensor]:
    """Mix images and their labels in one of several ways, drawn for each image.

    Args:
        images: normalised, float [B, C, H, W].
        labels: int64 [B].
        generator: draws the ways, all equally likely, and what each of them needs.
        mixings: the ways to mix, at least one.
        classes: number of classes.

    Returns:
        Images, float [B, C, H, W], and the share of each class, float [B, classes].
    """
    shares = F.one_hot(labels, classes).float()
    mixed, mixed_shares = mixings[0](images, shares, generator)
    if len(mixings) > 1:
        ways = to_device_of(images, torch.randint(len(mixings), (len(images),), generator=generator))
        for number, mixing in enumerate(mixings[1:], 1):
            others, other_shares = mixing(images, shares, generator)
            mixed = torch.where((ways == number)[:, None, None, None], others, mixed)
            mixed_shares = torch.where((ways == number)[:, None], other_shares, mixed_shares)
    return mixed, mixed_shares


def mixup(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, mixup_alpha: float
) -> tuple[Tensor, Tensor]:
    """Return weighted means of two images and of their labels (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        images: normalised, float [B, C, H, W].
        labels: share of each class, float [B, classes].
        generator: draws each image's own share, from Beta(`mixup_alpha`, `mixup_alpha`).
        mixup_alpha: above 0; small values leave most images almost as they are.
    """
    kept = to_device_of(images, _beta(mixup_alpha, len(images), generator))
    return torch.lerp(_before(images), images, kept[:, None, None, None]), _shared(labels, kept)


def cutmix(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, cutmix_alpha: float
) -> tuple[Tensor, Tensor]:
    """Return the images, each with a rectangle of another one (Yun et al. 2019, arXiv:1905.04899).

    Labels are mixed in proportion to the areas. A rectangle has the image's proportions and is cut off at its border.

    Args:
        images: normalised, float [B, C, H, W].
        labels: share of each class, float [B, classes].
        generator: draws the share of the area outside the rectangle, before it is cut off, from
            Beta(`cutmix_alpha`, `cutmix_alpha`), and the rectangle's centre.
        cutmix_alpha: above 0.
    """
    count, channels, height, width = images.shape
    half = 0.5 * (1 - _beta(cutmix_alpha, count, generator)).sqrt()  # of each side
    centres = torch.rand(2, count, generator=generator)
    rows = _within(centres[0], half, height)
    columns = _within(centres[1], half, width)
    kept = 1 - rows.sum(1) * columns.sum(1) / (height * width)
    # whole lines of pixels, [B, H, W * C]: a loop over three channels would be six times as slow on a CPU
    drawn = torch.cat((rows, columns.repeat_interleave(channels, 1)), 1)
    inside = to_device_of(images, drawn)  # [B, H + W * C], one copy
    lines = channels_last(images).flatten(2)
    mixed = torch.where(inside[:, :height, None] & inside[:, None, height:], _before(lines), lines)
    pixels = mixed.view(count, height, width, channels).permute(0, 3, 1, 2)
    return pixels, _shared(labels, to_device_of(images, kept))


def _within(centre: Tensor, half: Tensor, length: int) -> Tensor:
    """Return bool [B, length]: which rows or columns are in the rectangles.

    Args:
        centre: from 0 to 1, [B].
        half: half of the rectangle's side as a fraction of the image's, [B].
        length: of the image's side, in pixels.
    """
    middle, reach = (centre * length).long()[:, None], (half * length).long()[:, None]
    place = torch.arange(length)
    return (place >= middle - reach) & (place < middle + reach)


def _shared(labels: Tensor, kept: Tensor) -> Tensor:
    return torch.lerp(_before(labels), labels, kept[:, None])


def _before(rows: Tensor) -> Tensor:
    """Return the image or label before each; before the first, the last."""
    if len(rows) == 1:
        return rows
    return torch.cat((rows[-1:], rows[:-1]))  # unlike `roll`, keeps the order in memory on every device


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw from Beta(alpha, alpha), float [count]: by NumPy, as torch's public one takes no generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count)).float()
