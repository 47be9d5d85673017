"""Decoded images cached on disk, so that no process decodes them twice."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabWarning

__all__ = ["cache_dir", "read_cache", "write_cache", "write_whole"]


def cache_dir() -> Path:
    """Return $LAB_CACHE_DIR, else ~/.cache/lab.

    Raises:
        RuntimeError: neither that variable nor a home folder exists.
    """
    given = os.environ.get("LAB_CACHE_DIR")
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "lab"


def read_cache(key: str, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return the array cached under `key`; None if there is none, or it is damaged or of another shape."""
    try:
        with np.load(_file(key), allow_pickle=False) as stored:
            images: NDArray[Any] = stored["images"]  # the zip format's checksum is verified here
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def write_cache(key: str, images: NDArray[np.uint8]) -> None:
    """Cache an array under `key`; warns if that is not possible."""
    try:
        write_whole(_file(key), lambda stream: np.savez(stream, images=images))
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"decoded images cannot be cached and will be decoded again next time: {error};"
            " set LAB_CACHE_DIR to a writable folder",
            LabWarning,
            stacklevel=2,
        )


def write_whole(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have `write` fill a temporary file, then rename it: readers and other writers never see half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _file(key: str) -> Path:
    return cache_dir() / "images" / f"{key}.npz"
