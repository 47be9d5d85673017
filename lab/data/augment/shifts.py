"""Augmentations that move every pixel of an image by whole pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.data.augment.pixels import channels_last, to_device_of

__all__ = ["automatic_padding", "horizontal_flip", "random_crop", "translation"]


def horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images, each mirrored left to right with probability 1/2."""
    count = len(images)
    flipped = torch.rand(count, generator=generator) < 0.5
    rows = channels_last(images)
    # selecting whole images from both versions copies each once; torch.where would test every byte
    both = torch.cat((rows, rows.flip(2)))  # [2B, H, W, C]
    index = torch.arange(count) + count * flipped
    return both.index_select(0, to_device_of(images, index)).permute(0, 3, 1, 2)


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
    padded[:, down : down + height, right : right + width] = channels_last(images)
    line = padded.shape[2] * channels  # bytes of one padded row
    corners = (torch.arange(count) * padded.shape[1] + offsets[0]) * line + offsets[1] * channels  # [B]
    starts = corners[:, None] + torch.arange(height) * line  # [B, H]: first byte of each row of a window
    # A window is `height` runs of bytes. With a view of overlapping runs, one from every byte, index_select copies
    # each as a block: four times as fast on a CPU as gathering pixels, and without a loop over images.
    run = width * channels
    runs = padded.as_strided((padded.numel() - run + 1, run), (1, 1))
    windows = runs.index_select(0, to_device_of(images, starts.flatten()))
    return windows.view(count, height, width, channels).permute(0, 3, 1, 2)
