"""Images with more than 8 bits per channel: their range, and which value is white.

A file rarely says how many of its 16 bits a camera used: 12-bit pixels read as 16-bit ones are nearly black, and
scaling each image by its own maximum would erase how bright it is. So white is one value for all images of a kind:
what the files declare, or the full range if the brightest of them needs it. Otherwise only the user knows.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lab.errors import DataError

__all__ = [
    "Kind",
    "Range",
    "kind_of",
    "measure",
    "merged",
    "png_chunks",
    "to_eight_bits",
    "white_level",
    "white_levels",
]

_SAYING_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339  # TIFF's tags
_SAYING_MOST: Final = (281, 341)  # MaxSampleValue, SMaxSampleValue
_SIGNED = 2
_UNSIGNED_32: Final = 2.0**32 - 1
_FULL: Final = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 31, 32)))
_SWAPPED: Final = {"B": "L", "L": "B", "N": "B"}  # N is L on every machine that torch runs on
_FORMATS_AT_FULL_RANGE: Final = ("PPM", "JPEG2000")  # Pillow spreads their bits over 16


@dataclass(frozen=True)
class Kind:
    """How the pixels of deep images are stored.

    Attributes:
        name: shown to users.
        top: largest value that the type can hold; 1 for floating point.
        white: the white level that the file declares; None if it declares none.
        used: number of bits that a PNG declares significant; 0 if it declares none. The standard means the upper
            bits, but some cameras use the lower ones.
        negative: whether 0 is white.
    """

    name: str
    top: float
    white: float | None = None
    used: int = 0
    negative: bool = False


@dataclass(frozen=True)
class Range:
    """Minimum and maximum of the pixels of one or more images; NaN if a pixel is NaN."""

    low: float
    high: float
    file: str
    images: int = 1

    def __or__(self, other: Range) -> Range:
        ends = np.minimum(self.low, other.low), np.maximum(self.high, other.high)  # NaN stays NaN
        return Range(float(ends[0]), float(ends[1]), self.file, self.images + other.images)


def kind_of(image: Image.Image, content: bytes) -> Kind | None:
    """Return the kind of an image that is not loaded yet; None if it has 8 bits."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    depth = _depth(image, tags)
    if depth is None:
        return None
    negative = tags.get(_PHOTOMETRIC) == 0 and not depth[0].endswith("colour")
    return Kind(*depth, _said(image, tags), _significant(content), negative)


def _depth(image: Image.Image, tags: Mapping[int, Any]) -> tuple[str, float] | None:
    """Return the depth of the pixels, in words and as the largest value that they can have."""
    signed = tags.get(_FORMAT) == (_SIGNED,)
    if image.mode == "F":
        return "floating-point", 1.0
    if image.mode == "I" and _bits(tags) == 32:
        return ("signed 32-bit", 2.0**31 - 1) if signed else ("32-bit", _UNSIGNED_32)
    if image.mode.startswith("I"):
        return ("signed 16-bit", 2.0**15 - 1) if signed else ("16-bit", 2.0**16 - 1)
    if image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(image):
        return "16-bit colour", 2.0**16 - 1
    return None


def measure(content: bytes, file: str) -> tuple[Kind, Range] | None:
    """Return the kind and the range of a deep image; None if it has 8 bits."""
    with Image.open(io.BytesIO(content)) as image:
        kind = kind_of(image, content)
        if kind is None:
            return None
        values = _colours(_values(image, content, kind))
        return kind, Range(float(values.min()), float(values.max()), file)


def white_levels(ranges: Mapping[Kind, Range], full_scale: float | None, dataset: str) -> dict[Kind, float]:
    """Return the white level of each kind of deep image.

    Args:
        ranges: over all images of each kind.
        full_scale: the white level that the user has set.
        dataset: the kind of dataset, for errors.

    Raises:
        DataError: it cannot be determined; says for which images, and what to set.
    """
    found = {kind: white_level(kind, seen, full_scale) for kind, seen in ranges.items()}
    faults = [_unknown(kind, ranges[kind], full_scale) for kind, white in found.items() if white is None]
    if faults:
        raise DataError("\n".join(f"{dataset}: {fault}" for fault in faults))
    return {kind: white for kind, white in found.items() if white is not None}


def white_level(kind: Kind, seen: Range, full_scale: float | None) -> float | None:
    """Return the white level of deep images of a `kind` with the range `seen`; None if it cannot be determined."""
    if not np.isfinite([seen.low, seen.high]).all():
        return None
    if full_scale is not None:
        return full_scale if seen.high <= full_scale else None
    if seen.low < 0:
        return None
    if kind.white is not None:
        return kind.white if seen.high <= kind.white else None
    if kind.used and seen.high < 2**kind.used:
        return 2.0**kind.used - 1
    return kind.top if kind.top / 2 < seen.high <= kind.top else None


def to_eight_bits(
    image: Image.Image, content: bytes, kind: Kind, white: float | None
) -> tuple[Image.Image, Image.Image | None]:
    """Return a deep image as L or RGB, and its opacity as L; None if it is fully opaque.

    Args:
        image: opened from `content`.
        content: of the file.
        kind: of the image.
        white: from `white_levels`; the largest value of the type if None.
    """
    values = _values(image, content, kind)
    white = white or kind.white or kind.top
    colours = _colours(values)
    if white == 65535:  # as earlier versions did
        scaled = (np.clip(colours, 0, white).astype(np.uint16) >> 8).astype(np.uint8)
    else:
        scaled = np.rint(np.clip(colours, 0, white) * (255 / white)).astype(np.uint8)
    if kind.negative:
        scaled = 255 - scaled
    clear = image.info.get("transparency")
    opaque = None
    if values.ndim == 3 and values.shape[2] == 4:
        opaque = Image.fromarray((values[..., 3] >> 8).astype(np.uint8))
    elif clear is not None:
        differs = values != np.asarray(clear)
        opaque = Image.fromarray(
            np.where(differs if values.ndim == 2 else differs.any(2), 255, 0).astype(np.uint8)
        )
    return Image.fromarray(scaled), opaque


def _unknown(kind: Kind, seen: Range, full_scale: float | None) -> str:
    which = (
        f"{seen.images:,} {kind.name} images ({seen.file} …)"
        if seen.images > 1
        else f"{seen.file} ({kind.name})"
    )
    if not np.isfinite([seen.low, seen.high]).all():
        return f"{which}: some pixels are not finite numbers; export these files again or remove them"
    span = f"{seen.low:g} to {seen.high:g}"
    if full_scale is not None:
        return f"full_scale={full_scale:g} is too low for {which}, whose pixels range from {span}. Raise it"
    likely = next((full for full in _FULL if full >= seen.high), kind.top)
    return (
        f"cannot tell which value is white in {which}: their pixels range from {span}, and the format"
        f" allows up to {kind.top:g}. Set full_scale, e.g. full_scale: {likely:.10g}"
    )


def _values(image: Image.Image, content: bytes, kind: Kind) -> NDArray[Any]:
    """Return the pixels as stored, [H, W] or [H, W, C]."""
    if kind.name == "16-bit colour":
        return _wide(image, content)
    values = np.asarray(image)
    return values.view(np.uint32) if kind.top == _UNSIGNED_32 else values


def _colours(values: NDArray[Any]) -> NDArray[Any]:
    return values[..., :3] if values.ndim == 3 else values


def _wide(image: Image.Image, content: bytes) -> NDArray[Any]:
    """Return 16-bit colour, [H, W, 3 or 4]: Pillow gives the upper bytes, so the lower ones are read separately."""
    upper = np.asarray(image).astype(np.uint16)
    with Image.open(io.BytesIO(content)) as again:
        if _raw_mode(again).startswith("LA"):  # four bytes per pixel: grey and alpha, upper byte first
            again.tile = [tile._replace(args="RGBA") for tile in again.tile]
            lower = np.asarray(again).astype(np.uint16)[..., [1, 1, 1, 3]]
        else:
            again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
            lower = np.asarray(again).astype(np.uint16)
    return upper << 8 | lower


def _other_order(args: Any) -> Any:
    if isinstance(args, str):
        return args[:-1] + _SWAPPED[args[-1]]
    return (_other_order(args[0]), *args[1:])


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)  # none once it is loaded
    args = tiles[0].args if tiles else ""
    mode = args[0] if isinstance(args, tuple) and args else args
    return mode if isinstance(mode, str) else ""


def _said(image: Image.Image, tags: Mapping[int, Any]) -> float | None:
    """Return the white level that a file declares; the maximum of this image alone does not count."""
    if image.format in _FORMATS_AT_FULL_RANGE:
        return 65535.0
    if _bits(tags) not in (0, 16, 32):
        return 2.0 ** _bits(tags) - 1
    for tag in _SAYING_MOST:
        value = tags.get(tag)
        most = max(value) if isinstance(value, tuple) and value else value
        if isinstance(most, int | float) and float(most) in _FULL:
            return float(most)
    return None


def _bits(tags: Mapping[int, Any]) -> int:
    bits = tags.get(_SAYING_BITS, 0)
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _significant(content: bytes) -> int:
    """Return how many bits a PNG declares significant; 0 if it declares none."""
    return next((max(data) for name, data, _ in png_chunks(content) if name == b"sBIT" and data), 0)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield name, data and checksum of a PNG's chunks; nothing for other files."""
    at = 8
    while content.startswith(b"\x89PNG\r\n\x1a\n") and at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        yield (
            content[at + 4 : at + 8],
            content[at + 8 : at + 8 + length],
            content[at + 8 + length : at + 12 + length],
        )
        at += 12 + length


def merged(found: Iterable[tuple[Kind, Range] | None]) -> dict[Kind, Range]:
    """Return the range over all images of each kind."""
    ranges: dict[Kind, Range] = {}
    for kind, seen in filter(None, found):
        ranges[kind] = ranges[kind] | seen if kind in ranges else seen
    return ranges
