"""Augmentations of a whole batch of uint8 images at once, with an independent random draw per image.

They run on the device before normalisation, so whatever they uncover or erase is black. The draws come from a CPU
generator, one call per augmentation and batch, so the same seed gives the same draws on every device.

Each takes and returns uint8 images, [B, C, H, W]; the result is in new memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from lab import registry
from lab.config import TrialConfig
from lab.errors import Fault

__all__ = [
    "Augmentation",
    "augmentation_faults",
    "automatic_padding",
    "build_augmentations",
    "cutout",
    "horizontal_flip",
    "random_crop",
    "rotation",
    "translation",
]

#: Takes images, uint8 [B, C, H, W], and the CPU generator to draw from; returns images of the same shape.
Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def build_augmentations(config: TrialConfig) -> tuple[Augmentation, ...]:
    """Return the augmentations of `config.augment`, in order, with their options."""
    return tuple(_bind(registry.augmentations[name], config) for name in config.augment)


def augmentation_faults(config: TrialConfig, shape: tuple[int, int, int]) -> list[Fault]:
    """Return what is wrong with the augmentations for images of this shape, [C, H, W]."""
    side = min(shape[1:])
    if config.crop_padding is None or config.crop_padding < side:
        return []
    message = f"must be less than the shorter side of the images ({side}), but got {config.crop_padding}"
    return [Fault(f"{message}; crops would be all black", "crop_padding")]


def horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images, each mirrored left to right with probability 1/2."""
    count = len(images)
    flipped = torch.rand(count, generator=generator) < 0.5
    rows = _channels_last(images)
    # selecting whole images from both versions copies each once; torch.where would test every byte
    both = torch.cat((rows, rows.flip(2)))  # [2B, H, W, C]
    index = torch.arange(count) + count * flipped
    return both.index_select(0, _to(index, images)).permute(0, 3, 1, 2)


def random_crop(images: Tensor, generator: torch.Generator, *, crop_padding: int | None = None) -> Tensor:
    """Return the images, each shifted by up to `crop_padding` pixels, black at the border.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the offsets, all equally likely.
        crop_padding: in pixels; None for `automatic_padding`.
    """
    count, _, height, width = images.shape
    padding = automatic_padding(height, width) if crop_padding is None else crop_padding
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)  # [down, right]
    return _windows(images, offsets, (padding, padding))


def automatic_padding(height: int, width: int) -> int:
    """Return how far `random_crop` shifts images of this size by default.

    4 pixels, as usual for 32x32 (He et al. 2016, arXiv:1512.03385), and an eighth of smaller images.
    """
    side = min(height, width)
    return 4 if side >= 32 else max(1, side // 8)


def rotation(images: Tensor, generator: torch.Generator, *, rotation_degrees: float) -> Tensor:
    """Return the images, each rotated about its centre, with uncovered corners black.

    Pixels are interpolated bilinearly and rounded; results may differ by one between kinds of devices.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the angles, uniform in ±`rotation_degrees`.
        rotation_degrees: from 0 to 180.
    """
    angles = (2 * torch.rand(len(images), generator=generator) - 1) * math.radians(rotation_degrees)
    grid = _turned_grid(_to(torch.stack((angles.cos(), angles.sin())), images), *images.shape[2:])
    pixels = images.contiguous().float()  # the layout on which grid_sample is fast
    turned = F.grid_sample(pixels, grid, align_corners=False).round_().to(torch.uint8)
    return turned.contiguous(memory_format=torch.channels_last)


def translation(images: Tensor, generator: torch.Generator, *, translation_fraction: float) -> Tensor:
    """Return the images, each shifted vertically and horizontally by whole pixels, with uncovered pixels black.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the shifts, uniform in ±`translation_fraction` of each side, then rounded.
        translation_fraction: from 0 to 1.
    """
    sides = torch.tensor(images.shape[2:])
    furthest = sides * translation_fraction  # [2]
    shifts = (2 * torch.rand(2, len(images), generator=generator) - 1) * furthest[:, None]  # [down, right]
    down, right = furthest.round().long().tolist()
    offsets = torch.tensor([[down], [right]]) - shifts.round().long()  # of the window to keep
    return _windows(images, offsets, (down, right))


def cutout(images: Tensor, generator: torch.Generator, *, cutout_size: float) -> Tensor:
    """Return the images, each with a black square (DeVries & Taylor 2017, arXiv:1708.04552).

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the centres, anywhere in the image; squares are cut off at the border, as in the paper.
        cutout_size: side of the square as a fraction of the image's shorter side; at least one pixel.
    """
    count, channels, height, width = images.shape
    side = max(1, round(cutout_size * min(height, width)))
    centres = torch.rand(2, count, generator=generator) * torch.tensor([[height], [width]])
    starts = centres.long() - side // 2  # [2, B]
    down, right = _outside(starts[0], side, height), _outside(starts[1], side, width)
    # [B, H + W * C], one copy
    outside = _to(torch.cat((down, right.repeat_interleave(channels, 1)), 1), images)
    kept = outside[:, :height, None] | outside[:, None, height:]  # [B, H, W * C]
    # bitwise, because `and` of bytes is ten times as fast as masked_fill on a CPU
    return (_channels_last(images).flatten(2) & kept).view(count, height, width, channels).permute(0, 3, 1, 2)


def _bind(entry: registry.Entry, config: TrialConfig) -> Augmentation:
    return partial(entry.load(), **entry.arguments(config))


def _windows(images: Tensor, offsets: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return from each image, padded with black, a window of its original size.

    Args:
        images: uint8 [B, C, H, W].
        offsets: int64 [2, B]: each window's first row and column in the padded image.
        padding: rows above and below, and columns on either side.
    """
    count, channels, height, width = images.shape
    down, right = padding
    padded = images.new_zeros(count, height + 2 * down, width + 2 * right, channels)
    padded[:, down : down + height, right : right + width] = _channels_last(images)
    line = padded.shape[2] * channels  # bytes of one padded row
    corners = (torch.arange(count) * padded.shape[1] + offsets[0]) * line + offsets[1] * channels  # [B]
    starts = corners[:, None] + torch.arange(height) * line  # [B, H]: first byte of each row of a window
    # A window is `height` runs of bytes. With a view of overlapping runs, one from every byte, index_select copies
    # each as a block: four times as fast on a CPU as gathering pixels, and without a loop over images.
    run = width * channels
    runs = padded.as_strided((padded.numel() - run + 1, run), (1, 1))
    windows = runs.index_select(0, _to(starts.flatten(), images))
    return windows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _turned_grid(turns: Tensor, height: int, width: int) -> Tensor:
    """Return where each pixel of a rotated image comes from, [B, H, W, 2] as `grid_sample` expects.

    It adds rows and columns: `affine_grid` multiplies matrices, which is three times as slow and inexact in TF32.

    Args:
        turns: cosine and sine of each image's angle, [2, B].
        height: of the images, in pixels.
        width: of the images, in pixels.
    """
    cos, sin = turns[:, :, None, None]  # [B, 1, 1] each
    rows = torch.arange(height, device=turns.device)[:, None] - (height - 1) / 2  # [H, 1], from the centre
    columns = torch.arange(width, device=turns.device) - (width - 1) / 2  # [W]
    # scale the small tensors to the grid's -1..1, not the large ones
    across = cos * (columns * 2 / width) - sin * (rows * 2 / width)  # [B, H, W]
    down = sin * (columns * 2 / height) + cos * (rows * 2 / height)
    return torch.stack((across, down), 3)


def _outside(start: Tensor, side: int, length: int) -> Tensor:
    """Return uint8 [B, length]: 0 at the `side` positions from `start` [B] on, 255 elsewhere."""
    place = torch.arange(length) - start[:, None]
    return ((place < 0) | (place >= side)).to(torch.uint8) * 255


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()  # [B, H, W, C]; no copy if they have this order in memory


def _to(tensor: Tensor, images: Tensor) -> Tensor:
    return tensor.to(images.device, non_blocking=True)
