"""Fixtures for the tests of data."""

from __future__ import annotations

import pytest

from lab.data import clear_cache


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Let each test find the files as they are, not as the one before left them in memory."""
    clear_cache()
