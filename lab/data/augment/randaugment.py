"""RandAugment: a few operations per image, drawn from fourteen, all of one strength."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data.augment.pixels import channels_last, rounded, to_device_of
from lab.data.augment.warps import affine
from lab.torchvision_import import import_torchvision

__all__ = ["OPERATIONS", "randaugment"]

_WARPS: Final = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")

#: The operations of `torchvision.transforms.v2.RandAugment`, all equally likely.
OPERATIONS: Final = (
    *("identity", *_WARPS, "brightness", "color", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
_STRONGEST: Final = 30
_GREY: Final = (0.2989, 0.587, 0.114)  # shares of red, green and blue


@dataclass(frozen=True, eq=False)
class _Draw:
    """One operation for each of some images.

    Attributes:
        kinds: index of the operation, int64 [B].
        signs: its direction, 1 or -1, [B].
        strength: of all, from 0 to 1.
    """

    kinds: Tensor
    signs: Tensor
    strength: float

    def of(self, index: Tensor) -> _Draw:
        return _Draw(self.kinds[index], self.signs[index], self.strength)

    def amounts(self, name: str) -> Tensor:
        """Return direction times strength for the images of an operation, 0 for others; float [B]."""
        return self.signs * self.strength * (self.kinds == OPERATIONS.index(name))


_Operation: TypeAlias = Callable[[Tensor, _Draw], Tensor]  # takes and returns uint8 [B, C, H, W]


def randaugment(
    images: Tensor, generator: torch.Generator, *, randaugment_ops: int, randaugment_magnitude: int
) -> Tensor:
    """Return the images after a few operations each (Cubuk et al. 2020, arXiv:1909.13719).

    The operations and their strengths are those of `torchvision.transforms.v2.RandAugment`. Moved pixels are
    interpolated bilinearly, and uncovered ones are black. With other than three channels, `color` changes nothing.

    Args:
        images: uint8 [B, C, H, W].
        generator: draws the operations, and the directions of those that have two.
        randaugment_ops: number of operations for each image.
        randaugment_magnitude: strength, from 0 to 30.
    """
    shape = (randaugment_ops, len(images))
    kinds = torch.randint(len(OPERATIONS), shape, generator=generator)
    signs = torch.randint(2, shape, generator=generator) * 2 - 1
    rows = channels_last(images).clone()  # [B, H, W, C]
    for number in range(randaugment_ops):
        _change(rows, _Draw(kinds[number], signs[number], randaugment_magnitude / _STRONGEST))
    return rows.permute(0, 3, 1, 2)


def _change(rows: Tensor, draw: _Draw) -> None:
    """Change images, uint8 [B, H, W, C], in place: all images of an operation at once, and all that are warped."""
    for names, operation in _OPERATIONS.items():
        kinds = torch.tensor([OPERATIONS.index(name) for name in names])
        (here,) = torch.isin(draw.kinds, kinds).nonzero(as_tuple=True)
        if len(here):
            index = to_device_of(rows, here)
            changed = operation(rows.index_select(0, index).permute(0, 3, 1, 2), draw.of(here))
            rows.index_copy_(0, index, channels_last(changed))


def _warped(images: Tensor, draw: _Draw) -> Tensor:
    """Shear, shift or rotate each image."""
    height, width = images.shape[2:]
    shear_x, shear_y = (0.3 * draw.amounts(name) for name in ("shear_x", "shear_y"))
    angles = math.radians(30) * draw.amounts("rotate")
    cos, sin = angles.cos(), angles.sin()
    across = (150 / 331 * width * draw.amounts("translate_x")).trunc()  # whole pixels
    down = (150 / 331 * height * draw.amounts("translate_y")).trunc()
    # a sheared image stays in place at its upper or left border, half a side from its centre
    shifts = torch.stack((shear_x * (height / 2) - across, shear_y * (width / 2) - down))
    return affine(images, torch.stack((cos, shear_x - sin, shear_y + sin, cos)), shifts)


def _brightness(images: Tensor, draw: _Draw) -> Tensor:
    pixels = images.float()
    return _blended(pixels, pixels.new_zeros(1, 1, 1, 1), draw.amounts("brightness"))


def _color(images: Tensor, draw: _Draw) -> Tensor:
    if images.shape[1] != len(_GREY):
        return images
    pixels = images.float()
    return _blended(pixels, _grey(pixels), draw.amounts("color"))


def _contrast(images: Tensor, draw: _Draw) -> Tensor:
    pixels = images.float()
    grey = _grey(pixels) if images.shape[1] == len(_GREY) else pixels
    return _blended(pixels, grey.mean((1, 2, 3), keepdim=True), draw.amounts("contrast"))


def _sharpness(images: Tensor, draw: _Draw) -> Tensor:
    if min(images.shape[2:]) <= 2:
        return images
    pixels = images.float()
    blurred = pixels.clone()  # but for the border
    inner = blurred[:, :, 1:-1, 1:-1]
    # nine pixels count 1 each, and the middle one 4 more; a convolution would be inexact in TF32
    inner.copy_((9 * F.avg_pool2d(pixels, 3, 1) + 4 * inner).div_(13).round_())
    return _blended(pixels, blurred, draw.amounts("sharpness"))


def _grey(pixels: Tensor) -> Tensor:
    """Return the grey level of float pixels in three colours, rounded down as torchvision does, [B, 1, H, W]."""
    red, green, blue = (share * pixels[:, place : place + 1] for place, share in enumerate(_GREY))
    return (red + green + blue).floor_()


def _blended(pixels: Tensor, other: Tensor, amounts: Tensor) -> Tensor:
    """Return pixels away from the other ones (towards them, if the amount is negative), as uint8.

    Args:
        pixels: float [B, C, H, W], from 0 to 255.
        other: like `pixels`, or broadcast to them.
        amounts: from -1 to 1, [B] on the CPU.
    """
    weights = to_device_of(pixels, -0.9 * amounts)[:, None, None, None]
    return rounded(torch.lerp(pixels, other, weights).clamp_(0, 255))


def _posterized(images: Tensor, draw: _Draw) -> Tensor:
    changed: Tensor = _torchvision().posterize(images, 8 - round(4 * draw.strength))
    return changed


def _solarized(images: Tensor, draw: _Draw) -> Tensor:
    changed: Tensor = _torchvision().solarize(images, round(255 * (1 - draw.strength), 3))
    return changed


def _autocontrast(images: Tensor, draw: _Draw) -> Tensor:
    channels = images.flatten(0, 1)[:, None]  # torchvision takes one or three
    changed: Tensor = _torchvision().autocontrast(channels)
    return changed.view(images.shape)


def _equalized(images: Tensor, draw: _Draw) -> Tensor:
    changed: Tensor = _torchvision().equalize(images)
    return changed


def _torchvision() -> ModuleType:
    return import_torchvision("torchvision.transforms.v2.functional")


_OPERATIONS: Final[dict[tuple[str, ...], _Operation]] = {
    _WARPS: _warped,
    ("brightness",): _brightness,
    ("color",): _color,
    ("contrast",): _contrast,
    ("sharpness",): _sharpness,
    ("posterize",): _posterized,
    ("solarize",): _solarized,
    ("autocontrast",): _autocontrast,
    ("equalize",): _equalized,
}
