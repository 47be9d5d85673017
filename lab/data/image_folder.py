"""Image folders with one folder per class."""

from __future__ import annotations

from pathlib import Path

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData
from lab.data.decoded import listing_digest, load_listing
from lab.data.folder_notes import folder_notes, sizes
from lab.data.listing import Survey, check_readable, list_images, survey
from lab.errors import DataError, printable

__all__ = ["IMAGE_FOLDER"]

_LEAST, _MOST = 4, 1024  # limits of image_size


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        found = survey(root, config.classes)
        check_readable(found, skip_unreadable=config.skip_unreadable)
        size = _size(config, found)
        return DataInfo((3, size, size), found.classes, has_val="val" in found.layout.parts)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return how the folder is read, one line per fact: see `data_notes`."""
        found = survey(root, config.classes)
        return folder_notes(found, config, _size(config, found))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return the `listing_digest`."""
        listing = list_images(
            survey(root, config.classes, fresh=True), skip_unreadable=config.skip_unreadable
        )
        return listing_digest(listing, config.classes)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        found = survey(root, config.classes, fresh=True)
        size = _size(config, found)
        listing = list_images(found, skip_unreadable=config.skip_unreadable)
        config = config.model_copy(update={"image_size": size})
        return load_listing(listing, config, folder_notes(found, config, size))


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


IMAGE_FOLDER = _ImageFolder()
