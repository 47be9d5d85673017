"""What image folders and tables have in common: all of them list encoded images."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData
from lab.data.decoded import listing_digest, load_listing
from lab.data.listed import Listing
from lab.data.sizes import Sizes, side_of
from lab.errors import DataError

__all__ = ["Found", "ListedSource"]


class Found(Protocol):
    """What is in a data folder. It is remembered between calls, and `listing` with it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, indexed by label."""

    @property
    def roles(self) -> Collection[str]:
        """The splits that there are, among train, val and test."""

    @property
    def sizes(self) -> Sizes:
        """Of the images that can be read."""

    @property
    def unreadable(self) -> str:
        """The message about the images that cannot be read; empty if all can."""

    @property
    def listing(self) -> Listing:
        """The images that can be read.

        Raises:
            DataError: a class has none left to train on.
        """


F = TypeVar("F", bound=Found)


@dataclass(frozen=True)
class ListedSource(Generic[F]):
    """See `Source`.

    Attributes:
        find: returns what is in a data folder; if its third argument is true, images that were overwritten in place
            are noticed, too.
        tell: returns how it is read, one line per fact; the number is the side of the images that the model gets.
    """

    find: Callable[[TrialConfig, Path, bool], F]
    tell: Callable[[F, TrialConfig, int], tuple[str, ...]]

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        """Return shape and classes; see `Source`."""
        found = self._readable(config, root)
        size = side_of(config, found.sizes, root)
        return DataInfo((3, size, size), found.classes, has_val="val" in found.roles)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return how the images are read, one line per fact: see `data_notes`."""
        found = self._readable(config, root)
        return self.tell(found, config, side_of(config, found.sizes, root))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return the `listing_digest`."""
        return listing_digest(self._readable(config, root, fresh=True).listing, config.classes)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        """Return the images; see `Source`. Nothing is downloaded."""
        found = self._readable(config, root, fresh=True)
        size = side_of(config, found.sizes, root)
        config = config.model_copy(update={"image_size": size})
        return load_listing(found.listing, config, self.tell(found, config, size))

    def _readable(self, config: TrialConfig, root: Path, *, fresh: bool = False) -> F:
        found = self.find(config, root, fresh)
        if found.unreadable and not config.skip_unreadable:
            raise DataError(found.unreadable)
        _ = found.listing  # raises if a class is left without images
        return found
