"""Random rectangles: for what is cropped or erased."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["drawn_rectangles"]

_TRIES = 10  # as in torchvision


def drawn_rectangles(
    count: int,
    size: tuple[int, int],
    areas: tuple[float, float],
    ratios: tuple[float, float],
    generator: torch.Generator,
    *,
    largest: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a rectangle in each image as torchvision does: the first that fits of ten.

    Args:
        count: of images, B.
        size: height and width of the images.
        areas: least and greatest, as fractions of the image; equally likely.
        ratios: least and greatest height as a fraction of the width; their logarithms are equally likely.
        generator: draws areas, shapes and places.
        largest: height and width that fit.

    Returns:
        First rows and columns, int64 [2, B]; heights and widths, int64 [2, B]; whether one of the ten fits, bool [B].
        One that does not has no meaning.
    """
    logs = math.log(ratios[0]), math.log(ratios[1])
    drawn = torch.rand(2, _TRIES, count, generator=generator, dtype=torch.float64)
    area = math.prod(size) * (areas[0] + drawn[0] * (areas[1] - areas[0]))
    ratio = (logs[0] + drawn[1] * (logs[1] - logs[0])).exp()
    sides = torch.stack(((area * ratio).sqrt(), (area / ratio).sqrt())).round().long()  # [2, tries, B]
    fitting = ((sides >= 1) & (sides <= torch.tensor(largest)[:, None, None])).all(0)  # [tries, B]
    first = fitting.int().argmax(0)  # 0 if none fits
    sides = sides[:, first, torch.arange(count)]  # [2, B]
    free = torch.tensor(size)[:, None] - sides + 1
    starts = (torch.rand(2, count, generator=generator, dtype=torch.float64) * free).long()
    return starts, sides, fitting.any(0)
