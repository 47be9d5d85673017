"""The version of lab."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("lab")
    except PackageNotFoundError:
        return "unknown (run from a folder, not installed)"
