"""Any folder of images in class folders: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import PIL
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, make_split
from lab.data.cache import read_cache, write_cache
from lab.data.decode import decode
from lab.data.listing import Listing, class_names, list_images
from lab.data.progress import track
from lab.errors import DataError

__all__ = ["IMAGE_FOLDER"]

T = TypeVar("T")

_FORMAT = 1  # of the cached array; to be raised when decoding changes
_CHUNK = 256  # files per task
_SHOWN = 5


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        size = _size(config)
        return DataInfo((3, size, size), class_names(root))

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        try:
            listing = list_images(root)
            images = _images(listing, _size(config))
        except OSError as error:
            raise DataError(f"image_folder: {root} cannot be read: {error}") from error
        labels, classes, cut = listing.labels, listing.classes, listing.train
        train = make_split(images[:cut], labels[:cut], len(classes), "image_folder")
        test = None
        if cut < len(labels):
            # a copy: as a view, the test split would keep all images in memory beside the splits cut from train
            test = make_split(images[cut:].copy(), labels[cut:], len(classes), "image_folder")
        return RawData(train, test, classes, str(root))


def _size(config: TrialConfig) -> int:
    return config.image_size or 32


def _images(listing: Listing, size: int) -> NDArray[np.uint8]:
    """Return all images of a listing, [N, size, size, 3]."""
    key = _key(listing, size)
    shape = (len(listing.files), size, size, 3)
    images = read_cache(key, shape)
    if images is None:
        images = _decode_all(listing, size)
        write_cache(key, images)
    return images


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


def _decode_all(listing: Listing, size: int) -> NDArray[np.uint8]:
    images = np.empty((len(listing.files), size, size, 3), np.uint8)
    faults: list[str] = []

    def decode_chunk(listing: Listing, start: int, stop: int) -> list[str]:
        return [fault for at in range(start, stop) if (fault := _decode_into(images[at], listing, at, size))]

    for found in _by_chunks(listing, decode_chunk, "Decoding images"):
        faults += found
    if faults:
        more = f"\n… and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError("image_folder: images that cannot be read:\n" + "\n".join(faults[:_SHOWN]) + more)
    return images


def _decode_into(target: NDArray[np.uint8], listing: Listing, at: int, size: int) -> str:
    file = f"{listing.root}/{listing.files[at]}"
    try:
        target[:] = decode(file, size)
    except DataError as error:
        return str(error)
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
