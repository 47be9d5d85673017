"""From an image file to pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lab.errors import DataError

__all__ = ["decode"]

# what Pillow raises over damaged files, by format
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)


def decode(file: str, size: int) -> NDArray[np.uint8]:
    """Return an image file as RGB, squeezed or stretched to [size, size, 3] with antialiasing.

    Raises:
        DataError: damaged, no image, or of more pixels than Pillow deems safe; names the file.
    """
    try:
        with Image.open(file) as image:
            return _pixels(image, size)
    except Image.DecompressionBombError as error:
        raise DataError(f"{file}: {error}") from error
    except _BROKEN as error:
        raise DataError(f"{file}: {error or type(error).__name__}") from error


def _pixels(image: Image.Image, size: int) -> NDArray[np.uint8]:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:  # up to twice this, Pillow only warns
        raise Image.DecompressionBombError(
            f"{image.width}x{image.height} pixels exceed the limit of {limit}, could be a decompression bomb"
        )
    # a JPEG can be decoded at a half, a quarter … of its size; twice the target leaves enough to smooth
    image.draft("RGB", (2 * size, 2 * size))
    ImageOps.exif_transpose(image, in_place=True)
    rgb = _eight_bit(image).convert("RGB")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image as 8-bit: Pillow's own conversion clips, making it white."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
