"""Any folder of images in class folders: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, make_split
from lab.data.cache import read_cache, write_cache
from lab.data.chunks import by_chunks
from lab.data.contents import content_digests
from lab.data.decode import decode, survey
from lab.data.levels import Kind, Range, merged, white_levels
from lab.data.listing import Listing, class_names, list_images
from lab.errors import DataError, LabWarning

__all__ = ["IMAGE_FOLDER"]

_FORMAT = 2  # of the cached array; to be raised when decoding changes
_SHOWN = 5


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        size = _size(config)
        return DataInfo((3, size, size), class_names(root))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return a digest of all that is trained on, in the order in which it is read.

        Names of files do not count, but their order does, as the seeded splits depend on it; nor do classes
        that the config leaves out.
        """
        try:
            listing = list_images(root)
            contents = content_digests(listing.root, listing.files)
        except OSError as error:
            raise DataError(f"image_folder: {root} cannot be read: {error}") from error
        sha = hashlib.sha256()
        for at, (label, content) in enumerate(zip(listing.labels, contents, strict=True)):
            name = listing.classes[label]
            if name in (config.classes or (name,)):
                part = "train" if at < listing.train else "test"
                spelling = ascii(unicodedata.normalize("NFC", name))  # macOS and Linux differ
                sha.update(f"{part} {spelling} {content}\n".encode())
        return f"sha256:{sha.hexdigest()[:16]}"

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        try:
            listing = list_images(root)
            images = _images(listing, config)
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


def _images(listing: Listing, config: TrialConfig) -> NDArray[np.uint8]:
    """Return all images of a listing, [N, size, size, 3]."""
    key, size = _key(listing, config), _size(config)
    shape = (len(listing.files), size, size, 3)
    images = read_cache(key, shape)
    if images is None:
        images = _decode_all(listing, config)
        write_cache(key, images)
    return images


def _key(listing: Listing, config: TrialConfig) -> str:
    """Return the name of what decoding gives: it changes with every byte of the files, their order, and the decoder."""
    contents = "\n".join(content_digests(listing.root, listing.files))
    how = f"{_FORMAT} {PIL.__version__} {_size(config)} {config.background} {config.full_scale}"
    return hashlib.sha256(f"{how}\n{contents}".encode()).hexdigest()


def _decode_all(listing: Listing, config: TrialConfig) -> NDArray[np.uint8]:
    size, white = _size(config), _white(listing, config)
    images = np.empty((len(listing.files), size, size, 3), np.uint8)
    faults: list[str] = []

    def decode_into(target: NDArray[np.uint8], at: int) -> str:
        file = f"{listing.root}/{listing.files[at]}"
        try:
            target[:] = decode(file, size, background=config.background, white=white)
        except DataError as error:
            return str(error)
        return ""

    def decode_chunk(start: int, stop: int) -> list[str]:
        return [fault for at in range(start, stop) if (fault := decode_into(images[at], at))]

    for found in by_chunks(len(listing.files), decode_chunk, "Decoding images"):
        faults += found
    if faults:
        more = f"\n… and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError("image_folder: images that cannot be read:\n" + "\n".join(faults[:_SHOWN]) + more)
    return images


def _white(listing: Listing, config: TrialConfig) -> dict[Kind, float]:
    """Return which value is white in the images of more than 8 bits: one for all of a kind, as brightness counts."""

    def look(start: int, stop: int) -> list[tuple[tuple[Kind, Range] | None, bool]]:
        return [survey(f"{listing.root}/{file}") for file in listing.files[start:stop]]

    found = [seen for chunk in by_chunks(len(listing.files), look, "Looking at images") for seen in chunk]
    several = [file for file, (_, frames) in zip(listing.files, found, strict=True) if frames]
    if several:
        message = f"{len(several):,} images have several frames ({several[0]} …): the first of each is read"
        warnings.warn(f"image_folder: {message}", LabWarning, stacklevel=2)
    return white_levels(merged(deep for deep, _ in found), config.full_scale)


IMAGE_FOLDER = _ImageFolder()
