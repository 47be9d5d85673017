"""Image folders with one folder per class: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, Split, make_split
from lab.data.cache import read_cache, write_cache
from lab.data.chunks import by_chunks
from lab.data.contents import content_digests
from lab.data.decode import decode, examine
from lab.data.folder_notes import folder_notes, sizes
from lab.data.levels import Kind, Range, merged, white_levels
from lab.data.listing import Listing, Survey, check_readable, list_images, survey, unreadable
from lab.errors import DataError, LabWarning, printable

__all__ = ["IMAGE_FOLDER"]

_FORMAT = 2  # of the cached array; raise it when decoding changes
_LEAST, _MOST = 4, 1024  # limits of image_size


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        found = survey(root, config.classes)
        check_readable(found, skip_unreadable=config.skip_unreadable)
        size = _size(config, found)
        return DataInfo((3, size, size), found.classes)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return how the folder is read, one line per fact: see `data_notes`."""
        found = survey(root, config.classes)
        return folder_notes(found, config, _size(config, found))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return a digest of everything that is trained on, in the order in which it is read.

        File names do not count, but their order does, because the seeded splits depend on it. Classes that the
        config excludes do not count either.
        """
        found = survey(root, config.classes, fresh=True)
        try:
            listing = list_images(found, skip_unreadable=config.skip_unreadable)
            contents = content_digests(listing.root, listing.files)
        except OSError as error:
            raise DataError(f"image_folder: {root} cannot be read: {error}") from error
        sha = hashlib.sha256()
        for at, (label, content) in enumerate(zip(listing.labels, contents, strict=True)):
            name = listing.classes[label]
            if name in (config.classes or (name,)):
                sha.update(f"{listing.split(at)} {name!a} {content}\n".encode())
        return f"sha256:{sha.hexdigest()[:16]}"

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        found = survey(root, config.classes, fresh=True)
        config = config.model_copy(update={"image_size": _size(config, found)})
        listing = list_images(found, skip_unreadable=config.skip_unreadable)
        try:
            read, images = _images(listing, config, skip=config.skip_unreadable)
        except OSError as error:
            raise DataError(f"image_folder: {root} cannot be read: {error}") from error
        notes = folder_notes(found, config, images.shape[1])
        if len(read.files) < len(listing.files):
            notes += (f"left out: {len(listing.files) - len(read.files):,} damaged images (skip_unreadable)",)
        return _splits(read, images, notes)


def _splits(listing: Listing, images: NDArray[np.uint8], notes: tuple[str, ...]) -> RawData:
    """Return the images [N, size, size, 3] of a listing as its splits."""
    ends = (0, listing.train, listing.train + listing.val, len(listing.files))

    def split(start: int, stop: int) -> Split | None:
        if start == stop:
            return None
        # a copy: a view would keep all images in memory alongside those taken from train
        part = images[start:stop] if stop - start == len(images) else images[start:stop].copy()
        return make_split(part, listing.labels[start:stop], len(listing.classes), "image_folder")

    train, val, test = (split(start, stop) for start, stop in pairwise(ends))
    assert train is not None  # otherwise a class would have no images
    return RawData(train, test, listing.classes, str(listing.root), val, notes)


def _size(config: TrialConfig, found: Survey) -> int:
    """Return the side of the images: `image_size` if given, else their own.

    Raises:
        DataError: the images are not all squares of the same size, within the limits of `image_size`.
    """
    if config.image_size is not None:
        return config.image_size
    squares = {width for width, height in found.sizes if width == height}
    if len(found.sizes) == 1 and squares and min(squares) >= _LEAST and max(squares) <= _MOST:
        return squares.pop()
    raise DataError(
        f"image_folder: set image_size, the side in pixels (--image-size 64), for {printable(str(found.root))}: it can"
        f" only be omitted if all images are squares of the same size, from {_LEAST} to {_MOST} pixels. Sizes found:"
        f" {sizes(found)}"
    )


def _images(listing: Listing, config: TrialConfig, *, skip: bool) -> tuple[Listing, NDArray[np.uint8]]:
    """Return the images of a listing, [N, size, size, 3], and the listing; both without unreadable ones if `skip`."""
    key, size = _key(listing, config), config.image_size
    assert size is not None
    damaged = read_cache(f"{key}-damaged", (len(listing.files),)) if skip else None
    if damaged is not None:
        return _images(listing.without(set(np.flatnonzero(damaged))), config, skip=False)
    images = read_cache(key, (len(listing.files), size, size, 3))
    if images is None:
        images, faults = _decode_all(listing, config, size)
        if faults:
            if not skip:
                reasons = {listing.files[at]: reason for at, reason in faults.items()}
                raise DataError(unreadable(listing.root, reasons, len(listing.files)))
            damaged = np.zeros(len(listing.files), np.uint8)
            damaged[list(faults)] = 1
            write_cache(f"{key}-damaged", damaged)
            listing, images = listing.without(faults), images[damaged == 0]
            key = _key(listing, config)
        write_cache(key, images)
    return listing, images


def _key(listing: Listing, config: TrialConfig) -> str:
    """Return the cache key of the decoded images, derived from every byte of the files, their order and the decoder."""
    contents = "\n".join(content_digests(listing.root, listing.files))
    how = f"{_FORMAT} {PIL.__version__} {config.image_size} {config.background} {config.full_scale}"
    return hashlib.sha256(f"{how}\n{contents}".encode()).hexdigest()


def _decode_all(listing: Listing, config: TrialConfig, size: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the images, [N, size, size, 3], and why some of them cannot be read, by index."""
    white = _white(listing, config)
    images = np.empty((len(listing.files), size, size, 3), np.uint8)
    faults: dict[int, str] = {}

    def decode_into(target: NDArray[np.uint8], at: int) -> str:
        file = f"{listing.root}/{listing.files[at]}"
        try:
            target[:] = decode(file, size, background=config.background, white=white)
        except DataError as error:
            return str(error).removeprefix(f"{file}: ")
        return ""

    def decode_chunk(start: int, stop: int) -> dict[int, str]:
        reasons = {at: decode_into(images[at], at) for at in range(start, stop)}
        return {at: reason for at, reason in reasons.items() if reason}

    for found in by_chunks(len(listing.files), decode_chunk, "Decoding images"):
        faults |= found
    return images, faults


def _white(listing: Listing, config: TrialConfig) -> dict[Kind, float]:
    """Return the white level of images deeper than 8 bits: one per kind, because brightness carries information."""

    def look(start: int, stop: int) -> list[tuple[tuple[Kind, Range] | None, bool]]:
        return [examine(f"{listing.root}/{file}") for file in listing.files[start:stop]]

    found = [seen for chunk in by_chunks(len(listing.files), look, "Looking at images") for seen in chunk]
    several = [file for file, (_, frames) in zip(listing.files, found, strict=True) if frames]
    if several:
        message = (
            f"{len(several):,} images have several frames ({several[0]} …): only the first of each is read"
        )
        warnings.warn(f"image_folder: {message}", LabWarning, stacklevel=2)
    return white_levels(merged(deep for deep, _ in found), config.full_scale)


IMAGE_FOLDER = _ImageFolder()
