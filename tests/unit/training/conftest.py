"""Images that these tests draw once: they look at what becomes of them, not at how they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache in which all tests of this process find their synthetic images and how these are divided."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _images_of_all(_own_folders: None, drawn_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE_DIR", str(drawn_images))
