"""Any folder of images in class folders: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import PIL
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, Split, make_split
from lab.data.cache import read_cache, write_cache
from lab.data.decode import decode
from lab.data.folder_notes import folder_notes, sizes
from lab.data.listing import Listing, Survey, check_readable, list_images, survey, unreadable
from lab.data.progress import track
from lab.errors import DataError, printable

__all__ = ["IMAGE_FOLDER"]

T = TypeVar("T")

_FORMAT = 1  # of the cached array; to be raised when decoding changes
_CHUNK = 256  # files per task
_LEAST, _MOST = 4, 1024  # what image_size may be


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        found = survey(root, config.classes)
        check_readable(found, skip_unreadable=bool(config.skip_unreadable))
        size = _size(config, found)
        return DataInfo((3, size, size), found.classes)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return what is read of the folder, a line each: see `data_notes`."""
        found = survey(root, config.classes)
        return folder_notes(found, config, _size(config, found))

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        found = survey(root, config.classes, fresh=True)
        size, skip = _size(config, found), bool(config.skip_unreadable)
        listing = list_images(found, skip_unreadable=skip)
        try:
            read, images = _images(listing, size, skip=skip)
        except OSError as error:
            raise DataError(f"image_folder: {root} cannot be read: {error}") from error
        notes = folder_notes(found, config, size)
        if len(read.files) < len(listing.files):
            notes += (f"left out: {len(listing.files) - len(read.files):,} damaged images (skip_unreadable)",)
        return _splits(read, images, notes)


def _splits(listing: Listing, images: NDArray[np.uint8], notes: tuple[str, ...]) -> RawData:
    """Return the images [N, size, size, 3] of a listing as its splits."""
    ends = (0, listing.train, listing.train + listing.val, len(listing.files))

    def split(start: int, stop: int) -> Split | None:
        if start == stop:
            return None
        # a copy: as a view, a split would keep all images in memory beside those that are cut from train
        part = images[start:stop] if stop - start == len(images) else images[start:stop].copy()
        return make_split(part, listing.labels[start:stop], len(listing.classes), "image_folder")

    train, val, test = (split(start, stop) for start, stop in pairwise(ends))
    assert train is not None  # or there would be a class without images
    return RawData(train, test, listing.classes, str(listing.root), val, notes)


def _size(config: TrialConfig, found: Survey) -> int:
    """Return the side of the images: `image_size`, else their own.

    Raises:
        DataError: they are not all squares of one size that `image_size` could name.
    """
    if config.image_size is not None:
        return config.image_size
    squares = {width for width, height in found.sizes if width == height}
    if len(found.sizes) == 1 and squares and min(squares) >= _LEAST and max(squares) <= _MOST:
        return squares.pop()
    raise DataError(
        f"image_folder: give image_size, in pixels a side (--image-size 64), for {printable(str(found.root))}: only"
        f" images that are all squares of one size, from {_LEAST} to {_MOST} pixels, need none. Sizes found:"
        f" {sizes(found)}"
    )


def _images(listing: Listing, size: int, *, skip: bool) -> tuple[Listing, NDArray[np.uint8]]:
    """Return all images of a listing, [N, size, size, 3], and the listing without those that were to `skip`."""
    key = _key(listing, size)
    damaged = read_cache(f"{key}-damaged", (len(listing.files),)) if skip else None
    if damaged is not None:
        return _images(listing.without(set(np.flatnonzero(damaged))), size, skip=False)
    images = read_cache(key, (len(listing.files), size, size, 3))
    if images is None:
        images, faults = _decode_all(listing, size)
        if faults:
            if not skip:
                reasons = {listing.files[at]: reason for at, reason in faults.items()}
                raise DataError(unreadable(listing.root, reasons, len(listing.files)))
            damaged = np.zeros(len(listing.files), np.uint8)
            damaged[list(faults)] = 1
            write_cache(f"{key}-damaged", damaged)
            listing, images = listing.without(faults), images[damaged == 0]
            key = _key(listing, size)
        write_cache(key, images)
    return listing, images


def _key(listing: Listing, size: int) -> str:
    """Return the name of what decoding gives: it changes with every byte of the files, their names, and the decoder."""
    sha = hashlib.sha256(f"{_FORMAT} {PIL.__version__} {size} {listing.train}\n".encode())
    for hashes in _by_chunks(listing, _hash_files, "Reading images"):
        sha.update(hashes)
    return sha.hexdigest()


def _hash_files(listing: Listing, start: int, stop: int) -> bytes:
    sha = hashlib.sha256()
    for file in listing.files[start:stop]:
        content = _read(f"{listing.root}/{file}")
        name = os.fsencode(file)
        sha.update(b"%d %d\n%b" % (len(name), len(content), name))  # lengths: no two listings look the same
        sha.update(content)
    return sha.digest()


def _read(file: str) -> bytes:
    with open(file, "rb", buffering=0) as stream:  # noqa: PTH123  # 60,000 Paths take a second
        return stream.read()


def _decode_all(listing: Listing, size: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the images, [N, size, size, 3], and why some of them cannot be read, by their places."""
    images = np.empty((len(listing.files), size, size, 3), np.uint8)
    faults: dict[int, str] = {}

    def decode_chunk(listing: Listing, start: int, stop: int) -> dict[int, str]:
        reasons = {at: _decode_into(images[at], listing, at, size) for at in range(start, stop)}
        return {at: reason for at, reason in reasons.items() if reason}

    for found in _by_chunks(listing, decode_chunk, "Decoding images"):
        faults |= found
    return images, faults


def _decode_into(target: NDArray[np.uint8], listing: Listing, at: int, size: int) -> str:
    """Decode an image; return why that is not possible, or nothing."""
    file = f"{listing.root}/{listing.files[at]}"
    try:
        target[:] = decode(file, size)
    except DataError as error:
        return str(error).removeprefix(f"{file}: ")
    return ""


def _by_chunks(listing: Listing, work: Callable[[Listing, int, int], T], what: str) -> Iterator[T]:
    """Yield what `work(listing, start, stop)` returns over the whole listing, in order, done by threads.

    Threads serve: Pillow and hashlib release the interpreter lock while they work.
    """
    count = len(listing.files)
    starts = range(0, count, _CHUNK)
    cores: int = joblib.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        done = pool.map(lambda start: work(listing, start, min(start + _CHUNK, count)), starts)
        sized = ((min(_CHUNK, count - start), result) for start, result in zip(starts, done, strict=True))
        try:
            yield from track(sized, count, what)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C or a fault need not wait for the rest


IMAGE_FOLDER = _ImageFolder()
