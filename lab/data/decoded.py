"""From a list of images to arrays: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import PIL
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import RawData, Split, make_split
from lab.data.cache import read_cache, write_cache
from lab.data.chunks import by_chunks
from lab.data.decode import decode, examine
from lab.data.encoded import Encoded
from lab.data.levels import Kind, Range, merged, white_levels
from lab.data.listed import Listing, unreadable
from lab.errors import DataError, LabWarning, printable

__all__ = ["Decoder", "listing_digest", "load_listing"]

_FORMAT = 2  # of the cached array; raise it when decoding changes


@dataclass(frozen=True)
class Decoder:
    """Decodes images one by one; it can be pickled.

    Attributes:
        images: where they are.
        size: height and width of the decoded images, in pixels.
        background: the colour behind transparent pixels.
        white: the white level of each kind of image with more than 8 bits.
    """

    images: Encoded
    size: int
    background: str = "white"
    white: Mapping[Kind, float] = field(default_factory=dict)

    def __call__(self, at: int) -> NDArray[np.uint8]:
        """Return the image at index `at`, [size, size, 3].

        Raises:
            DataError: it is damaged or not an image; the message is the reason.
        """
        name = self.images.name(at)
        try:
            content = self.images.read(at)
            return decode(
                name, self.size, content=content, background=self.background, white=dict(self.white)
            )
        except DataError as error:
            raise DataError(str(error).removeprefix(f"{name}: ")) from error
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error


def load_listing(listing: Listing, config: TrialConfig, notes: tuple[str, ...]) -> RawData:
    """Return the images of a listing, decoded to `image_size`.

    Args:
        listing: the images.
        config: the settings image_size, background, full_scale and skip_unreadable matter.
        notes: how they were read; the number of damaged images that are left out is added.

    Raises:
        DataError: images are damaged, unless they are to be skipped; lists the first few.
    """
    try:
        read, images = _images(listing, config, skip=config.skip_unreadable)
    except OSError as error:
        raise DataError(f"{listing.dataset}: {listing.root} cannot be read: {error}") from error
    if len(read.labels) < len(listing.labels):
        left_out = len(listing.labels) - len(read.labels)
        notes += (f"left out: {left_out:,} damaged images (skip_unreadable)",)
    return _splits(read, images, notes)


def listing_digest(listing: Listing, classes: tuple[str, ...]) -> str:
    """Return a digest of everything that is trained on, in the order in which it is read.

    File names do not count, but their order does, because the seeded splits depend on it. Classes other than `classes`
    (empty: all) do not count either.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        contents = listing.images.digests()
    except OSError as error:
        raise DataError(f"{listing.dataset}: {listing.root} cannot be read: {error}") from error
    sha = hashlib.sha256()
    for at, (label, content) in enumerate(zip(listing.labels, contents, strict=True)):
        name = listing.classes[label]
        if name in (classes or (name,)):
            group = f" {listing.groups[at]!a}" if listing.groups else ""
            sha.update(f"{listing.split(at)} {name!a} {content}{group}\n".encode())
    return f"sha256:{sha.hexdigest()[:16]}"


def _splits(listing: Listing, images: NDArray[np.uint8], notes: tuple[str, ...]) -> RawData:
    """Return the images [N, size, size, 3] of a listing as its splits."""
    ends = (0, listing.train, listing.train + listing.val, len(listing.labels))

    def split(start: int, stop: int) -> Split | None:
        if start == stop:
            return None
        # a copy: a view would keep all images in memory alongside those taken from train
        part = images[start:stop] if stop - start == len(images) else images[start:stop].copy()
        return make_split(part, listing.labels[start:stop], len(listing.classes), listing.dataset)

    train, val, test = (split(start, stop) for start, stop in pairwise(ends))
    assert train is not None  # otherwise a class would have no images
    groups = listing.groups[: listing.train]
    return RawData(train, test, listing.classes, str(listing.root), val, notes, groups)


def _images(listing: Listing, config: TrialConfig, *, skip: bool) -> tuple[Listing, NDArray[np.uint8]]:
    """Return the images of a listing, [N, size, size, 3], and the listing; both without unreadable ones if `skip`."""
    key, size, count = _key(listing, config), config.image_size, len(listing.labels)
    assert size is not None
    damaged = read_cache(f"{key}-damaged", (count,)) if skip else None
    if damaged is not None:
        return _images(listing.without(set(np.flatnonzero(damaged))), config, skip=False)
    images = read_cache(key, (count, size, size, 3))
    if images is None:
        images, faults = _decode_all(listing, config, size)
        if faults:
            if not skip:
                reasons = {listing.images.name(at): reason for at, reason in faults.items()}
                raise DataError(unreadable(listing.dataset, listing.root, reasons, count))
            damaged = np.zeros(count, np.uint8)
            damaged[list(faults)] = 1
            write_cache(f"{key}-damaged", damaged)
            listing, images = listing.without(faults), images[damaged == 0]
            key = _key(listing, config)
        write_cache(key, images)
    return listing, images


def _key(listing: Listing, config: TrialConfig) -> str:
    """Return the cache key of the decoded images, derived from every byte of the files, their order and the decoder."""
    contents = "\n".join(listing.images.digests())
    how = f"{_FORMAT} {PIL.__version__} {config.image_size} {config.background} {config.full_scale}"
    return hashlib.sha256(f"{how}\n{contents}".encode()).hexdigest()


def _decode_all(listing: Listing, config: TrialConfig, size: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the images, [N, size, size, 3], and why some of them cannot be read, by index."""
    decoder = Decoder(listing.images, size, config.background, _white(listing, config))
    images = np.empty((len(listing.labels), size, size, 3), np.uint8)
    faults: dict[int, str] = {}

    def decode_chunk(start: int, stop: int) -> dict[int, str]:
        reasons = {}
        for at in range(start, stop):
            try:
                images[at] = decoder(at)
            except DataError as error:
                reasons[at] = str(error)
        return reasons

    for found in by_chunks(len(listing.labels), decode_chunk, "Decoding images"):
        faults |= found
    return images, faults


def _white(listing: Listing, config: TrialConfig) -> dict[Kind, float]:
    """Return the white level of images deeper than 8 bits: one per kind, because brightness carries information."""

    def look(start: int, stop: int) -> list[tuple[tuple[Kind, Range] | None, bool]]:
        return [_examine(listing.images, at) for at in range(start, stop)]

    found = [seen for chunk in by_chunks(len(listing.labels), look, "Looking at images") for seen in chunk]
    several = [at for at, (_, frames) in enumerate(found) if frames]
    if several:
        first = printable(listing.images.name(several[0]))
        message = f"{len(several):,} images have several frames ({first} …): only the first of each is read"
        warnings.warn(f"{listing.dataset}: {message}", LabWarning, stacklevel=2)
    return white_levels(merged(deep for deep, _ in found), config.full_scale, listing.dataset)


def _examine(images: Encoded, at: int) -> tuple[tuple[Kind, Range] | None, bool]:
    try:
        return examine(images.name(at), images.read(at))
    except OSError:  # decoding reports it
        return None, False
