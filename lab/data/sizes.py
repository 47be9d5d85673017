"""The size to which images of files are resized, and sizes in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from lab.config import TrialConfig
from lab.errors import DataError, printable

__all__ = ["Sizes", "side_of", "size_note", "sizes_in_words"]

#: How many images have each width and height in pixels.
Sizes = Counter[tuple[int, int]]

_LEAST, _MOST = 4, 1024  # limits of image_size
_SHOWN = 5
_RESIZED: Final = {"squash": "resized", "crop": "cropped and resized", "pad": "resized and padded"}


def side_of(config: TrialConfig, sizes: Sizes, root: Path) -> int:
    """Return the side of the images: `image_size` if given, else their own.

    Args:
        config: the settings dataset and image_size matter.
        sizes: of the images.
        root: where they are, for errors.

    Raises:
        DataError: the images are not all squares of the same size, within the limits of `image_size`.
    """
    if config.image_size is not None:
        return config.image_size
    squares = {width for width, height in sizes if width == height}
    if len(sizes) == 1 and squares and min(squares) >= _LEAST and max(squares) <= _MOST:
        return squares.pop()
    raise DataError(
        f"{config.dataset}: set image_size, the side in pixels (--image-size 64), for {printable(str(root))}: it can"
        f" only be omitted if all images are squares of the same size, from {_LEAST} to {_MOST} pixels. Sizes found:"
        f" {sizes_in_words(sizes)}"
    )


def size_note(config: TrialConfig, sizes: Sizes, size: int) -> str:
    """Return the line about the size of the images that the model gets, `size` pixels square."""
    own = len(sizes) == 1 and (size, size) in sizes
    return f"size: {size}x{size}{'' if own else f', {_RESIZED[config.resize]} from {sizes_in_words(sizes)}'}"


def sizes_in_words(sizes: Sizes) -> str:
    """Return the sizes of the images, the most common first: `640x480 (120), 32x32 (2)`."""
    shown = [f"{width}x{height} ({count:,})" for (width, height), count in sizes.most_common(_SHOWN)]
    more = len(sizes) - len(shown)
    return ", ".join([*shown, *([f"{more:,} more sizes"] if more else [])])
