"""From a list of images to arrays: decoded and resized once, then read from a cache keyed by content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import RawData, Split, make_split
from lab.data.cache import alone, mapped, read_cache, recall, remember, write_cache
from lab.data.chunks import by_chunks
from lab.data.decode import decode, examine
from lab.data.encoded import Encoded
from lab.data.levels import Kind, Range, merged, white_levels
from lab.data.listed import Listing, unreadable
from lab.data.loaders import Loaders
from lab.data.room import too_large
from lab.data.stream import StreamSplit
from lab.errors import DataError, LabWarning, printable
from lab.wording import counted

__all__ = ["Decoder", "listing_digest", "load_listing"]

_FORMAT = 2  # of the cached array; raise it when decoding changes


@dataclass(frozen=True)
class Decoder:
    """Decodes images one by one; it can be pickled.

    Attributes:
        images: where they are.
        size: height and width of the decoded images, in pixels.
        resize: how images become squares; see `decode`.
        background: the colour behind transparent pixels.
        white: the white level of each kind of image with more than 8 bits.
    """

    images: Encoded
    size: int
    resize: str = "squash"
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
                name,
                self.size,
                content=content,
                resize=self.resize,
                background=self.background,
                white=self.white,
            )
        except DataError as error:
            raise DataError(str(error).removeprefix(f"{name}: ")) from error
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error


def load_listing(listing: Listing, config: TrialConfig, notes: tuple[str, ...]) -> RawData:
    """Return the images of a listing at `image_size`, decoded, or to be decoded for every batch if they are too many.

    Args:
        listing: the images.
        config: the settings image_size, resize, background, full_scale, skip_unreadable, data_in_memory and device
            matter.
        notes: how they were read; the number of damaged images that are left out is added, and that they are streamed.

    Raises:
        DataError: images are damaged, unless they are to be skipped; lists the first few.
    """
    count, size = len(listing.labels), config.image_size
    assert size is not None
    too_large_for_memory = too_large(config, count, (3, size, size))
    try:
        read, part = (_stream if too_large_for_memory else _decode)(listing, config)
    except OSError as error:
        raise DataError(f"{listing.dataset}: {listing.root} cannot be read: {error}") from error
    if len(read.labels) < count:
        notes += (f"left out: {counted(count - len(read.labels), 'damaged image')} (skip_unreadable)",)
    notes = (*notes, *filter(None, [too_large_for_memory]))
    white = white_levels(_looked(listing)[0], config.full_scale, listing.dataset)
    return replace(_splits(read, part, notes), white=white)


def listing_digest(listing: Listing, classes: tuple[str, ...]) -> str:
    """Return a digest of everything that is trained on, in the order in which it is read.

    File names do not count, but their order does, because the seeded splits depend on it. Classes other than `classes`
    (empty: all) do not count either. The order of the classes, which numbers them, counts where it is not sorted.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        contents = listing.images.digests()
    except OSError as error:
        raise DataError(f"{listing.dataset}: {listing.root} cannot be read: {error}") from error
    sha = hashlib.sha256()
    if not classes and list(listing.classes) != sorted(listing.classes):
        sha.update(f"classes {listing.classes!a}\n".encode())
    for at, (label, content) in enumerate(zip(listing.labels, contents, strict=True)):
        name = listing.classes[label]
        if name in (classes or (name,)):
            group = f" {listing.groups[at]!a}" if listing.groups else ""
            sha.update(f"{listing.split(at)} {name!a} {content}{group}\n".encode())
    return f"sha256:{sha.hexdigest()[:16]}"


def _splits(listing: Listing, part: Callable[[int, int], Split], notes: tuple[str, ...]) -> RawData:
    """Return the images of a listing as its splits; `part` makes one of the images between two indices."""
    ends = (0, listing.train, listing.train + listing.val, len(listing.labels))
    train, val, test = (None if start == stop else part(start, stop) for start, stop in pairwise(ends))
    assert train is not None  # otherwise a class would have no images
    groups = listing.groups[: listing.train]
    return RawData(train, test, listing.classes, str(listing.root), val, notes, groups)


def _decode(listing: Listing, config: TrialConfig) -> tuple[Listing, Callable[[int, int], Split]]:
    """Return the readable images of a listing, and what makes splits of them in memory."""
    listing, images, key = _images(listing, config)

    def part(start: int, stop: int) -> Split:
        labels, identity = listing.labels[start:stop], f"{key} {start}:{stop}"
        return make_split(images[start:stop], labels, len(listing.classes), listing.dataset, identity)

    return listing, part


def _stream(listing: Listing, config: TrialConfig) -> tuple[Listing, Callable[[int, int], Split]]:
    """Return the readable images of a listing, and what makes splits of them that are decoded when they are needed."""
    if config.skip_unreadable:
        listing = listing.without(set(np.flatnonzero(_damaged(listing, config))))
    decoder = _ListedDecoder(_decoder(listing, config), listing.dataset, _key(listing, config))
    loaders, labels = Loaders(decoder), torch.tensor(listing.labels)

    def part(start: int, stop: int) -> Split:
        return StreamSplit(loaders, torch.arange(start, stop), labels[start:stop].clone())

    return listing, part


@dataclass(frozen=True)
class _ListedDecoder:
    """Decodes the images of a listing; see `Decodes`."""

    decoder: Decoder
    dataset: str
    identity: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.decoder.size, self.decoder.size

    def __len__(self) -> int:
        return len(self.decoder.images)

    def __call__(self, at: int) -> NDArray[np.uint8]:
        try:
            return self.decoder(at)
        except DataError as error:
            images = self.decoder.images
            reasons = {images.name(at): str(error)}
            raise DataError(unreadable(self.dataset, images.root, reasons, len(images))) from error


def _damaged(listing: Listing, config: TrialConfig) -> NDArray[np.uint8]:
    """Return 1 for images that cannot be decoded, else 0, [N]; all are decoded if no process has done that yet."""
    decoder = _decoder(listing, config)

    def check(start: int, stop: int) -> list[bool]:
        return [bool(_fault(decoder, at)) for at in range(start, stop)]

    def check_all() -> NDArray[np.uint8]:
        found = by_chunks(len(listing.labels), check, "Looking for damaged images")
        return np.array([each for chunk in found for each in chunk], np.uint8)

    return mapped("damaged", _key(listing, config), check_all)


def _fault(decoder: Decoder, at: int) -> str:
    try:
        decoder(at)
    except DataError as error:
        return str(error)
    return ""


_Images = tuple[Listing, NDArray[np.uint8], str]  # the readable images: listed, decoded, and their key


def _images(listing: Listing, config: TrialConfig) -> _Images:
    """Return a listing, its images, [N, size, size, 3], and their key; without unreadable ones if they are skipped."""
    key = _key(listing, config)
    found = _cached(listing, config, key)
    if found is None:
        with alone("images", key):  # one process decodes, the others wait for it
            found = _cached(listing, config, key) or _decoded(listing, config, key)
    return found


def _cached(listing: Listing, config: TrialConfig, key: str) -> _Images | None:
    """Return what `_images` does if some process has decoded the images before; `key` is that of all of them."""
    damaged = read_cache("damaged", key) if config.skip_unreadable else None
    if damaged is not None:
        listing = listing.without(set(np.flatnonzero(damaged)))
        key = _key(listing, config)
    images = read_cache("images", key)
    return None if images is None else (listing, images, key)


def _decoded(listing: Listing, config: TrialConfig, key: str) -> _Images:
    """Decode and cache what `_images` returns."""
    images, faults = _decode_all(listing, config)
    if faults:
        if not config.skip_unreadable:
            reasons = {listing.images.name(at): reason for at, reason in faults.items()}
            raise DataError(unreadable(listing.dataset, listing.root, reasons, len(listing.labels)))
        damaged = np.zeros(len(listing.labels), np.uint8)
        damaged[list(faults)] = 1
        write_cache("damaged", key, damaged)
        listing, images = listing.without(faults), images[damaged == 0]
        key = _key(listing, config)
    return listing, write_cache("images", key, images), key


def _key(listing: Listing, config: TrialConfig) -> str:
    """Return the cache key of the decoded images, derived from every byte of the files, their order and the decoder."""
    contents = "\n".join(listing.images.digests())
    how = f"{_FORMAT} {PIL.__version__} {config.image_size} {config.background} {config.full_scale}"
    how += "" if config.resize == "squash" else f" {config.resize}"  # as in earlier versions
    return hashlib.sha256(f"{how}\n{contents}".encode()).hexdigest()


def _decode_all(listing: Listing, config: TrialConfig) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the images, [N, size, size, 3], and why some of them cannot be read, by index."""
    decoder = _decoder(listing, config)
    images = np.empty((len(listing.labels), decoder.size, decoder.size, 3), np.uint8)
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


def _decoder(listing: Listing, config: TrialConfig) -> Decoder:
    size = config.image_size
    assert size is not None
    return Decoder(listing.images, size, config.resize, config.background, _white(listing, config))


def _white(listing: Listing, config: TrialConfig) -> dict[Kind, float]:
    """Return the white level of images deeper than 8 bits: one per kind, because brightness carries information."""
    ranges, several = _looked(listing)
    if several:
        first = printable(listing.images.name(several[0]))
        message = f"{len(several):,} images have several frames ({first} …): only the first of each is read"
        warnings.warn(f"{listing.dataset}: {message}", LabWarning, stacklevel=2)
    return white_levels(ranges, config.full_scale, listing.dataset)


def _looked(listing: Listing) -> tuple[dict[Kind, Range], list[int]]:
    """Return the range of the pixels of each kind of deep images, and which images have several frames.

    Every file is read for that, so it is remembered.
    """
    contents = "\n".join([f"{_FORMAT} {PIL.__version__}", *listing.images.digests()])
    key = hashlib.sha256(contents.encode()).hexdigest()
    known = recall("ranges", key)
    if known is not None:
        return {Kind(*kind): Range(*seen) for kind, seen in known["ranges"]}, known["several"]

    def look(start: int, stop: int) -> list[tuple[tuple[Kind, Range] | None, bool]]:
        return [_examine(listing.images, at) for at in range(start, stop)]

    found = [seen for chunk in by_chunks(len(listing.labels), look, "Looking at images") for seen in chunk]
    ranges = merged(deep for deep, _ in found)
    several = [at for at, (_, frames) in enumerate(found) if frames]
    pairs = [(astuple(kind), astuple(seen)) for kind, seen in ranges.items()]
    remember("ranges", key, {"ranges": pairs, "several": several})
    return ranges, several


def _examine(images: Encoded, at: int) -> tuple[tuple[Kind, Range] | None, bool]:
    try:
        return examine(images.name(at), images.read(at))
    except OSError:  # decoding reports it
        return None, False
