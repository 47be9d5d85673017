"""Decoding of image files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lab.data.levels import Kind, Range, kind_of, measure, png_chunks, to_eight_bits
from lab.errors import DataError

__all__ = ["decode", "examine", "resized", "without_metadata"]

T = TypeVar("T")

# what Pillow raises for damaged files, depending on the format
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
_ORIENTATION = 0x0112  # Exif's tag
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SCAN, _COMMENT, _APPLICATIONS = 0xDA, 0xFE, range(0xE0, 0xF0)  # segments of a JPEG
_PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def decode(
    file: str,
    size: int | tuple[int, int],
    *,
    content: bytes | None = None,
    resize: str = "squash",
    background: str = "white",
    white: Mapping[Kind, float] = MappingProxyType({}),
) -> NDArray[np.uint8]:
    """Return an image file as RGB, [H, W, 3], upright as its Exif data says and resized with antialiasing.

    Only the first frame is read. Unreadable metadata is ignored.

    Args:
        file: its path.
        size: of a square, in pixels, or width and height.
        content: of the file, if it has been read already; `file` is then only its name in errors.
        resize: how an image that is no square becomes one: `squash`, `crop` or `pad`; `squash` for other sizes.
        background: the colour behind transparent pixels, and beside padded images.
        white: the white level of each kind of image with more than 8 bits, from `white_levels`.

    Raises:
        DataError: the file is damaged, not an image, or has more pixels than Pillow considers safe; names the file.
    """

    width, height = (size, size) if isinstance(size, int) else size
    longer = max(width, height)

    def read(content: bytes) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(image)
            # a JPEG can be decoded at 1/2, 1/4 … of its size; twice the target leaves enough for antialiasing
            image.draft("RGB", (2 * longer, 2 * longer))
            rgb = _upright(_rgb(image, content, background, white), image)
            if width != height:
                return np.asarray(_stretched(rgb, width, height))
            return np.asarray(resized(rgb, width, resize, background))

    return _reading(file, content, read)


def examine(file: str, content: bytes) -> tuple[tuple[Kind, Range] | None, bool]:
    """Return the depth and range of an image's pixels (None for 8 bits), and whether it has several frames.

    Unreadable files are not reported here: decoding does that.

    Args:
        file: its name in errors.
        content: its bytes.
    """

    def read(content: bytes) -> tuple[tuple[Kind, Range] | None, bool]:
        with Image.open(io.BytesIO(content)) as image:
            _check_size(image)
            # an MPO's other frames are previews of a photograph
            several = image.format != "MPO" and getattr(image, "is_animated", False)
        return measure(content, file), several

    try:
        return _reading(file, content, read)
    except DataError:
        return None, False


def _reading(file: str, content: bytes | None, read: Callable[[bytes], T]) -> T:
    try:
        content = Path(file).read_bytes() if content is None else content
        try:
            return read(content)
        except _BROKEN:
            bare = without_metadata(content)
            if bare == content:
                raise
            return read(bare)
    except Image.DecompressionBombError as error:
        raise DataError(f"{file}: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{file}: not an image of a known format") from error
    except _BROKEN as error:
        raise DataError(f"{file}: {error or type(error).__name__}") from error


def _check_size(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:  # up to twice this, Pillow only warns
        raise Image.DecompressionBombError(
            f"{image.width}x{image.height} pixels exceed the limit of {limit}; it could be a decompression bomb"
        )


def _rgb(image: Image.Image, content: bytes, background: str, white: Mapping[Kind, float]) -> Image.Image:
    kind = kind_of(image, content)
    if kind is not None:
        eight, opaque = to_eight_bits(image, content, kind, white.get(kind))
        return _on(background, eight.convert("RGB"), opaque)
    if image.has_transparency_data:
        if image.mode == "La":  # Pillow can convert it only to LA
            image = image.convert("LA")
        clear = image.convert("RGBA")
        return _on(background, clear.convert("RGB"), clear.getchannel("A"))
    return image.convert("RGB")


def _on(background: str, image: Image.Image, opaque: Image.Image | None) -> Image.Image:
    """Return an RGB image as it looks on a background; colours of transparent pixels are ignored."""
    if opaque is None:
        return image
    return Image.composite(image, Image.new("RGB", image.size, background), opaque)


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Return a photograph's pixels rotated as its Exif data says; unreadable metadata is ignored."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # damaged metadata raises anything
        return pixels
    return pixels if turn is None else pixels.transpose(turn)


def _stretched(image: Image.Image, width: int, height: int) -> Image.Image:
    size = width, height
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _squashed(image: Image.Image, size: int, background: str) -> Image.Image:
    """Return an image stretched to a square."""
    return _stretched(image, size, size)


def _cropped(image: Image.Image, size: int, background: str) -> Image.Image:
    """Return the square in the middle of an image."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2  # also between two pixels
    box = (left, top, left + side, top + side)
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR, box)


def _padded(image: Image.Image, size: int, background: str) -> Image.Image:
    """Return a whole image in the middle of a square."""
    longer = max(image.size)
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    square = Image.new("RGB", (size, size), background)
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square


_RESIZED: Final[Mapping[str, Callable[[Image.Image, int, str], Image.Image]]] = {
    "squash": _squashed,
    "crop": _cropped,
    "pad": _padded,
}


def resized(image: Image.Image, size: int, resize: str, background: str) -> Image.Image:
    """Return an image, RGB or grey, as a square of `size` pixels; `resize` and `background` as for `decode`."""
    return _RESIZED[resize](image, size, background)


def without_metadata(content: bytes) -> bytes:
    """Return a PNG or JPEG reduced to its pixels and Exif data; any other file unchanged."""
    if content[:2] == b"\xff\xd8":
        return _bare_jpeg(content)
    kept = [
        len(data).to_bytes(4, "big") + name + data + checksum
        for name, data, checksum in png_chunks(content)
        if name in _PIXEL_CHUNKS
        or (name == b"eXIf" and zlib.crc32(name + data).to_bytes(4, "big") == checksum)
    ]
    return content[:8] + b"".join(kept) if kept else content


def _bare_jpeg(content: bytes) -> bytes:
    kept, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        marker, data = content[at + 1], content[at + 4 : end]
        # Exif has the orientation, Adobe's segment the colours
        needed = data[:6] == b"Exif\0\0" or (data[:5] == b"Adobe" and len(data) >= 12)
        if needed or (marker != _COMMENT and marker not in _APPLICATIONS):
            kept.append(content[at:end])
        at = end
    return b"".join([*kept, content[at:]])
