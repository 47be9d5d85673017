"""Augmentations that blacken a rectangle."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.data.augment.pixels import channels_last, to_device_of
from lab.data.augment.rectangles import drawn_rectangles

__all__ = ["cutout", "random_erasing"]

_AREAS = (0.02, 0.33)
_RATIOS = (0.3, 3.3)


def cutout(images: Tensor, generator: torch.Generator, *, cutout_size: float) -> Tensor:
    """Return the images, each with a black square (DeVries & Taylor 2017, arXiv:1708.04552).

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the centres, anywhere in the image; squares are cut off at the border, as in the paper.
        cutout_size: side of the square as a fraction of the image's shorter side; at least one pixel.
    """
    count, _, height, width = images.shape
    side = max(1, round(cutout_size * min(height, width)))
    centres = torch.rand(2, count, generator=generator) * torch.tensor([[height], [width]])
    starts = centres.long() - side // 2  # [2, B]
    return _blackened(images, starts, torch.full_like(starts, side))


def random_erasing(images: Tensor, generator: torch.Generator, *, erasing_probability: float) -> Tensor:
    """Return the images, some with a black rectangle (Zhong et al. 2020, arXiv:1708.04896).

    Its area is from 0.02 to 0.33 of the image and its height from 0.3 to 3.3 of its width, as in
    `torchvision.transforms.v2.RandomErasing`.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws which images have one, and its area, shape and place.
        erasing_probability: above 0, at most 1.
    """
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < erasing_probability
    starts, sides, fits = drawn_rectangles(
        count, (height, width), _AREAS, _RATIOS, generator, largest=(height - 1, width - 1)
    )
    return _blackened(images, starts, sides * (chosen & fits))


def _blackened(images: Tensor, starts: Tensor, sides: Tensor) -> Tensor:
    """Return the images, each with a black rectangle.

    Args:
        images: uint8 [B, C, H, W].
        starts: first row and column, int64 [2, B]; may be outside of the image.
        sides: height and width, int64 [2, B]; 0 for none.
    """
    count, channels, height, width = images.shape
    down = _outside(starts[0], sides[0], height)
    right = _outside(starts[1], sides[1], width)
    # [B, H + W * C], one copy
    outside = to_device_of(images, torch.cat((down, right.repeat_interleave(channels, 1)), 1))
    kept = outside[:, :height, None] | outside[:, None, height:]  # [B, H, W * C]
    # bitwise, because `and` of bytes is ten times as fast as masked_fill on a CPU
    return (channels_last(images).flatten(2) & kept).view(count, height, width, channels).permute(0, 3, 1, 2)


def _outside(start: Tensor, side: Tensor, length: int) -> Tensor:
    """Return uint8 [B, length]: 0 at the `side` [B] positions from `start` [B] on, 255 elsewhere."""
    place = torch.arange(length) - start[:, None]
    return ((place < 0) | (place >= side[:, None])).to(torch.uint8) * 255
