"""Images as users' code gives them, to arrays of one kind."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lab.data.decode import resized
from lab.errors import DataError

__all__ = ["fitted", "pixels_of"]

_CHANNELS: Final = (1, 3, 4)  # how many a first dimension may be that was meant to be the last
_GREY: Final = ("1", "L")
_EIGHT_BITS: Final = ("CMYK", "HSV", "LA", "LAB", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr")
_EXPECTED: Final = (
    "expected a PIL image, or uint8 pixels: an array [H, W] or [H, W, C], or a tensor [C, H, W]"
)


def pixels_of(image: Any, background: str) -> NDArray[np.uint8]:
    """Return an image as an array, [H, W, C]; a PIL image has 1 or 3 channels then.

    Args:
        image: a PIL image, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W].
        background: the colour behind transparent pixels of a PIL image.

    Raises:
        DataError: it is none of these, or not of 8 bits.
    """
    if isinstance(image, Image.Image):
        return _of_pillow(image, background)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(f"{_EXPECTED}, but got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        hint = (
            "; leave out what scales pixels, such as ToTensor: lab does that"
            if image.dtype.kind == "f"
            else ""
        )
        raise DataError(f"{_EXPECTED}, but got {image.dtype} {list(image.shape)}{hint}")
    if image.ndim == 3 and image.shape[0] in _CHANNELS and image.shape[2] > max(_CHANNELS):
        message = "an array's channels come last, a tensor's first"
        raise DataError(f"{_EXPECTED}, but got {list(image.shape)}: {message}")
    return image if image.ndim == 3 else image[..., None]


def fitted(
    image: NDArray[np.uint8], channels: int, size: int | None, resize: str, background: str
) -> NDArray[np.uint8]:
    """Return an image as the model gets it, [H, W, C].

    Args:
        image: [H, W, C]; a single channel may become several.
        channels: of the result.
        size: of the square that it becomes, in pixels; None for its own size.
        resize: as for `decode`.
        background: the colour beside padded images.
    """
    if size is not None and image.shape[:2] != (size, size):
        whole = image.shape[2] == 3
        layers = [image] if whole else [image[..., at] for at in range(image.shape[2])]
        done = [np.asarray(resized(Image.fromarray(each), size, resize, background)) for each in layers]
        image = done[0] if whole else np.stack(done, axis=-1)
    return image if image.shape[2] == channels else np.repeat(image, channels, axis=2)


def _of_pillow(image: Image.Image, background: str) -> NDArray[np.uint8]:
    if image.mode in _GREY and not image.has_transparency_data:
        return np.asarray(image.convert("L"))[..., None]
    if image.mode not in (*_GREY, *_EIGHT_BITS):
        raise DataError(f"{_EXPECTED}, but got a PIL image of mode {image.mode}; convert it to 8 bits")
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    behind = Image.new("RGB", image.size, background)
    return np.asarray(Image.composite(clear.convert("RGB"), behind, clear.getchannel("A")))
