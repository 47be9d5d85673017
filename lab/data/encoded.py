"""Where encoded images are: in files of their own, or inside other files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.data.contents import content_digests

__all__ = ["Encoded", "ImageFiles"]


class Encoded(Protocol):
    """A sequence of encoded images. It can be pickled, and any number of threads may read at once."""

    @property
    def root(self) -> Path:
        """The folder that contains them."""

    def __len__(self) -> int: ...

    def name(self, at: int) -> str:
        """Return what errors call the image at index `at`."""

    def read(self, at: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            OSError: they cannot be read.
        """

    def digests(self) -> list[str]:
        """Return a text for each image that changes with its bytes; remembered between processes.

        Raises:
            OSError: a file cannot be read.
        """

    def only(self, places: Sequence[int]) -> Encoded:
        """Return the images at these indices."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files, by their paths relative to `root` (or absolute ones)."""

    root: Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, at: int) -> str:
        """Return the path of the image at index `at`."""
        return self.paths[at]

    def read(self, at: int) -> bytes:
        """Return the bytes of an image, or raise OSError."""
        # for every image of every epoch: a Path takes longer
        with open(os.path.join(self.root, self.paths[at]), "rb", buffering=0) as stream:  # noqa: PTH118, PTH123
            return stream.read()

    def digests(self) -> list[str]:
        """Return the SHA-256 of each file."""
        return content_digests(self.root, self.paths)

    def only(self, places: Sequence[int]) -> ImageFiles:
        """Return the files at these indices."""
        return ImageFiles(self.root, tuple(self.paths[at] for at in places))
