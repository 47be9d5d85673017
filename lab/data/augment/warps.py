"""Augmentations that move pixels to places between pixels: bilinear interpolation, rounded.

Results may differ by one between kinds of devices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data.augment.pixels import rounded, to_device_of
from lab.data.augment.rectangles import drawn_rectangles

__all__ = ["affine", "random_resized_crop", "rotation"]

_RATIOS = (3 / 4, 4 / 3)  # as in torchvision


def rotation(images: Tensor, generator: torch.Generator, *, rotation_degrees: float) -> Tensor:
    """Return the images, each rotated about its centre, with uncovered corners black.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the angles, uniform in ±`rotation_degrees`.
        rotation_degrees: from 0 to 180.
    """
    angles = (2 * torch.rand(len(images), generator=generator) - 1) * math.radians(rotation_degrees)
    cos, sin = angles.cos(), angles.sin()
    return affine(images, torch.stack((cos, -sin, sin, cos)))


def random_resized_crop(images: Tensor, generator: torch.Generator, *, crop_scale: float) -> Tensor:
    """Return a random part of each image, resized to the image's size (Szegedy et al. 2015, arXiv:1409.4842).

    Its area is from `crop_scale` to 1 of the image and its width from 3/4 to 4/3 of its height, as in
    `torchvision.transforms.v2.RandomResizedCrop`; in the rare case that none of ten draws fits into the image, it is
    the largest central part of such a shape.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws areas, shapes and places.
        crop_scale: above 0, at most 1.
    """
    count, _, height, width = images.shape
    starts, sides, fits = drawn_rectangles(
        count, (height, width), (crop_scale, 1.0), _RATIOS, generator, largest=(height, width)
    )
    start, side = _central(height, width)
    starts, sides = torch.where(fits, starts, start), torch.where(fits, sides, side)
    down, right = map(_places, starts, sides, (height, width))
    places = to_device_of(images, torch.cat((down, right), 1))  # [B, H + W], one copy
    grid = torch.stack(
        (
            places[:, None, height:].expand(-1, height, -1),
            places[:, :height, None].expand(-1, -1, width),
        ),
        3,
    )  # [B, H, W, 2]
    return _sampled(images, grid)


def affine(images: Tensor, matrices: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Return the images under affine maps, with uncovered pixels black.

    Args:
        images: uint8 [B, C, H, W].
        matrices: a, b, c, d for each image, [4, B] on the CPU: what comes to (x, y), in pixels to the right of and
            below the image's centre, comes from (a x + b y, c x + d y).
        shifts: how much further to the right and below that it comes from, in pixels, [2, B] on the CPU.
    """
    height, width = images.shape[2:]
    if shifts is None:
        return _sampled(images, _grid(to_device_of(images, matrices), height, width))
    shifts = shifts * torch.tensor([[2 / width], [2 / height]])
    maps = to_device_of(images, torch.cat((matrices, shifts)))
    return _sampled(images, _grid(maps[:4], height, width) + maps[4:].T[:, None, None])


def _grid(matrices: Tensor, height: int, width: int) -> Tensor:
    """Return where each pixel comes from, [B, H, W, 2] as `grid_sample` expects.

    It adds rows and columns: `affine_grid` multiplies matrices, which is three times as slow and inexact in TF32.

    Args:
        matrices: as for `affine`, [4, B], on the device.
        height: of the images, in pixels.
        width: of the images, in pixels.
    """
    a, b, c, d = matrices[:, :, None, None]  # [B, 1, 1] each
    rows = torch.arange(height, device=matrices.device)[:, None] - (height - 1) / 2  # [H, 1], from the centre
    columns = torch.arange(width, device=matrices.device) - (width - 1) / 2  # [W]
    # scale the small tensors to the grid's -1..1, not the large ones
    across = a * (columns * 2 / width) + b * (rows * 2 / width)  # [B, H, W]
    down = c * (columns * 2 / height) + d * (rows * 2 / height)
    return torch.stack((across, down), 3)


def _central(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return start and sides, int64 [2, 1] each, of the largest central part of a shape that is allowed."""
    least, greatest = _RATIOS
    sides = torch.tensor([[min(height, round(width / least))], [min(width, round(height * greatest))]])
    return (torch.tensor([[height], [width]]) - sides) // 2, sides


def _places(start: Tensor, side: Tensor, length: int) -> Tensor:
    """Return where along one axis each pixel of a resized part comes from, [B, length], as `grid_sample` expects.

    Args:
        start: first row or column of the part, int64 [B].
        side: number of its rows or columns, int64 [B].
        length: rows or columns of the image.
    """
    within = (torch.arange(length) + 0.5) * (side / length)[:, None] - 0.5
    within = within.clamp(min=0).minimum(side[:, None] - 1.0)  # nothing outside of the part shines through
    return (2 * (start[:, None] + within) + 1) / length - 1


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    pixels = images.contiguous().float()  # the layout on which grid_sample is fast
    return rounded(F.grid_sample(pixels, grid, align_corners=False))
