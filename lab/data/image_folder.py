"""Image folders with one folder per class."""

from __future__ import annotations

from pathlib import Path

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData
from lab.data.decoded import listing_digest, load_listing
from lab.data.folder_notes import folder_notes
from lab.data.listing import check_readable, list_images, survey
from lab.data.sizes import side_of

__all__ = ["IMAGE_FOLDER"]


class _ImageFolder:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        found = survey(root, config.classes)
        check_readable(found, skip_unreadable=config.skip_unreadable)
        size = side_of(config, found.sizes, found.root)
        return DataInfo((3, size, size), found.classes, has_val="val" in found.layout.parts)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return how the folder is read, one line per fact: see `data_notes`."""
        found = survey(root, config.classes)
        return folder_notes(found, config, side_of(config, found.sizes, found.root))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return the `listing_digest`."""
        listing = list_images(
            survey(root, config.classes, fresh=True), skip_unreadable=config.skip_unreadable
        )
        return listing_digest(listing, config.classes)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        found = survey(root, config.classes, fresh=True)
        size = side_of(config, found.sizes, found.root)
        listing = list_images(found, skip_unreadable=config.skip_unreadable)
        config = config.model_copy(update={"image_size": size})
        return load_listing(listing, config, folder_notes(found, config, size))


IMAGE_FOLDER = _ImageFolder()
