"""Image folders with one folder per class."""

from __future__ import annotations

from lab.data.folder_notes import folder_notes
from lab.data.listed_source import ListedSource
from lab.data.listing import survey

__all__ = ["IMAGE_FOLDER"]

IMAGE_FOLDER = ListedSource(
    lambda config, root, fresh: survey(root, config.classes, fresh=fresh), folder_notes
)
