"""Splits as users' code gives them: arrays, or map-style datasets."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lab.config import composed
from lab.data.pixels import pixels_of
from lab.data.progress import track
from lab.data.sizes import Sizes
from lab.data.split_names import ROLES
from lab.errors import DataError

__all__ = ["ArrayPart", "ItemPart", "Part", "Scan", "parts_of", "scan"]

_EXPECTED: Final = (
    "must return (images, labels) or (images, labels, class names), a map-style torch Dataset, or a dict of these"
    " with the keys train, val and test"
)
_TWICE = 4  # images that are read twice, to find datasets that change them at random


class Part(Protocol):
    """The images of one split, with their labels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; empty if it does not say."""

    def __len__(self) -> int: ...

    def item(self, at: int) -> tuple[NDArray[np.uint8], int]:
        """Return the image at an index, [H, W, C], and its label.

        Raises:
            DataError: it is no such image.
            Exception: whatever the user's code raises.
        """


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Images in memory: an array [N, H, W, C], or a list of images of different sizes."""

    images: NDArray[np.uint8] | Sequence[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    background: str

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, at: int) -> tuple[NDArray[np.uint8], int]:
        """Return an image and its label; see `Part`."""
        image = self.images[at]
        whole = isinstance(self.images, np.ndarray)
        return image if whole else pixels_of(image, self.background), int(self.labels[at])


@dataclass(frozen=True, eq=False)
class ItemPart:
    """A map-style dataset, which makes an image whenever it is asked for one."""

    dataset: Any
    background: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The dataset's `classes`; empty if it has none."""
        return _names(getattr(self.dataset, "classes", None))

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, at: int) -> tuple[NDArray[np.uint8], int]:
        """Return an image and its label; see `Part`."""
        found = self.dataset[at]
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise DataError(f"must give (image, label), but gives {type(found).__name__}")
        image, label = found
        try:
            return pixels_of(image, self.background), operator.index(label)
        except TypeError:
            raise DataError(f"a label must be a whole number, but is {type(label).__name__}") from None


@dataclass(frozen=True, eq=False)
class Scan:
    """What one look at every image of a part has shown.

    Attributes:
        labels: of the images, [N].
        sizes: width and height.
        channels: the numbers of channels that occur.
        digest: changes with any pixel or label, or their order.
    """

    labels: NDArray[np.int64]
    sizes: Sizes
    channels: frozenset[int]
    digest: str


def parts_of(found: Any, background: str) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Return the splits in what a user's function returned, by role, and the class names, empty if it does not say.

    Args:
        found: see docs/OWN.md.
        background: the colour behind transparent pixels of PIL images.

    Raises:
        DataError: it has another form; says which.
    """
    given = dict(found) if isinstance(found, Mapping) else {"train": found}
    classes = [_names(given.pop("classes", None))]
    unknown = [str(name) for name in given if name not in ROLES]
    if unknown or "train" not in given:
        which = f"has the keys {', '.join(map(str, given))}" if given else "is empty"
        raise DataError(f"{_EXPECTED}, but its dict {which}")
    parts: dict[str, Part] = {role: _part(given[role], background) for role in ROLES if role in given}
    names = {each for each in (*classes, *(part.classes for part in parts.values())) if each}
    if len(names) > 1:
        raise DataError("has different class names in different splits; give all splits the same")
    for role, part in parts.items():
        if not len(part):
            raise DataError(f"has no images in {role}")
    return parts, names.pop() if names else ()


def scan(part: Part) -> Scan:
    """Look at every image of a part.

    Raises:
        DataError: an image or label has another form; names its index.
        Exception: whatever the user's code raises.
    """
    labels = np.empty(len(part), np.int64)
    sizes, channels, sha = Sizes(), Counter[int](), hashlib.sha256()
    for at in track(((1, at) for at in range(len(part))), len(part), "Looking at images"):
        image, label = item(part, at)
        labels[at] = label
        height, width, depth = image.shape
        sizes[width, height] += 1
        channels[depth] += 1
        sha.update(f"{height} {width} {depth} {label}\n".encode())
        sha.update(np.ascontiguousarray(image).data)
        if at < _TWICE and isinstance(part, ItemPart) and not np.array_equal(item(part, at)[0], image):
            raise DataError(
                f"gives another image {at} each time, so that no trial could be repeated; leave out random transforms,"
                " and use the setting `augment`"
            )
    return Scan(labels, sizes, frozenset(channels), sha.hexdigest())


def item(part: Part, at: int) -> tuple[NDArray[np.uint8], int]:
    """Return an image and its label; the error about one that has another form names its index."""
    try:
        return part.item(at)
    except DataError as error:
        raise type(error)(f"image {at}: {error}") from error


def _part(given: Any, background: str) -> Part:
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        images, labels, *names = given
        return ArrayPart(_images(images), _labels(labels, len(images)), _names(*names or [None]), background)
    plain = isinstance(given, tuple | list | str | np.ndarray | torch.Tensor)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not plain:
        return ItemPart(given, background)
    raise DataError(f"{_EXPECTED}, but got {type(given).__name__}")


def _images(images: Any) -> NDArray[np.uint8] | Sequence[Any]:
    """Return images as one array [N, H, W, C] if they are one, or else as they are."""
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu()
        images = (images.permute(0, 2, 3, 1) if images.ndim == 4 else images).numpy()
    if not isinstance(images, np.ndarray) or images.dtype == object:
        return list(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(
            f"images must be uint8 [N, H, W] or [N, H, W, C], but are {images.dtype} {list(images.shape)}"
        )
    if len(images):
        pixels_of(images[0], "white")  # finds channels that come first
    return images if images.ndim == 4 else images[..., None]


def _labels(labels: Any, count: int) -> NDArray[np.int64]:
    numbers = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if numbers.ndim != 1 or len(numbers) != count:
        raise DataError(f"{count:,} images need as many labels, but their shape is {list(numbers.shape)}")
    if numbers.dtype.kind not in "iu" and count:
        raise DataError(f"labels must be whole numbers, but are {numbers.dtype}")
    return numbers.astype(np.int64)


def _names(classes: Any) -> tuple[str, ...]:
    if classes is None:
        return ()
    names = tuple(composed(str(name)) for name in classes)
    if len(set(names)) < len(names):
        raise DataError(f"has the class {next(name for name in names if names.count(name) > 1)} twice")
    return names
