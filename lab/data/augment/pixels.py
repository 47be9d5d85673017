"""Layout and place of images in memory."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["channels_last", "rounded", "to_device_of"]


def channels_last(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] as [B, H, W, C]; without a copy if they have this order in memory."""
    return images.permute(0, 2, 3, 1).contiguous()


def rounded(pixels: Tensor) -> Tensor:
    """Return float pixels from 0 to 255, [B, C, H, W], as uint8 images with channels last in memory.

    The tensor is overwritten.
    """
    return pixels.round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def to_device_of(images: Tensor, drawn: Tensor) -> Tensor:
    """Return what was drawn on the CPU on the device of the images, without waiting for it."""
    return drawn.to(images.device, non_blocking=True)
