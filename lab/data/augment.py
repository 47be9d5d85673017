"""Augmentations of a whole batch of uint8 images at once, each image by its own random draw.

They run on the device before normalisation, so that the border a crop pads with is black. The draws come from a
CPU generator, one call a batch: the same seed gives the same images on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["horizontal_flip", "random_crop"]


def horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images, uint8 [B, C, H, W], each mirrored left to right with probability 1/2."""
    count = len(images)
    flipped = torch.rand(count, generator=generator) < 0.5
    rows = _channels_last(images)
    # choosing whole images among both versions copies each once; torch.where would test every byte
    both = torch.cat((rows, rows.flip(2)))  # [2B, H, W, C]
    index = torch.arange(count) + count * flipped
    return both.index_select(0, _to(index, images)).permute(0, 3, 1, 2)


def random_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images, uint8 [B, C, H, W], each shifted at random by up to the padding, black at the border.

    The padding is 4 pixels, as is usual for 32x32 (He et al. 2016, arXiv:1512.03385), and an eighth of smaller images.
    """
    count, channels, height, width = images.shape
    padding = crop_padding(height, width)
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)  # [down, right]
    padded = images.new_zeros(count, height + 2 * padding, width + 2 * padding, channels)
    padded[:, padding : padding + height, padding : padding + width] = _channels_last(images)
    line = padded.shape[2] * channels  # bytes of one padded row
    corners = (torch.arange(count) * padded.shape[1] + offsets[0]) * line + offsets[1] * channels  # [B]
    starts = corners[:, None] + torch.arange(height) * line  # [B, H]: the byte each cropped row begins with
    # A crop is `height` runs of bytes. Seen as one overlapping window from every byte, index_select copies each run
    # as a block: four times as fast on a CPU as gathering pixels, and without a loop over the images.
    run = width * channels
    windows = padded.as_strided((padded.numel() - run + 1, run), (1, 1))
    cropped = windows.index_select(0, _to(starts.flatten(), images))
    return cropped.view(count, height, width, channels).permute(0, 3, 1, 2)


def crop_padding(height: int, width: int) -> int:
    """Return how far `random_crop` shifts images of this size."""
    side = min(height, width)
    return 4 if side >= 32 else max(1, side // 8)


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()  # [B, H, W, C]; no copy where they lie so in memory


def _to(index: Tensor, images: Tensor) -> Tensor:
    return index.to(images.device, non_blocking=True)
