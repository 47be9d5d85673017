"""Decoded images, and what is known about images, cached on disk, so that no process finds it out twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
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

__all__ = ["cache_dir", "read_cache", "recall", "remember", "write_cache", "write_whole"]

_CHECKSUM = 64  # characters in front of what it is the SHA-256 of


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


def recall(kind: str, key: str) -> Any:
    """Return the value that was remembered under `key`; None if there is none, or it is damaged."""
    try:
        text = _note(kind, key).read_bytes()
        found = json.loads(text[_CHECKSUM:]) if _checksum(text[_CHECKSUM:]) == text[:_CHECKSUM] else None
    except (OSError, RuntimeError, ValueError):
        return None
    return found


def remember(kind: str, key: str, value: Any) -> None:
    """Remember a value under `key`, a digest of what it was found out from; what cannot be saved is forgotten.

    Args:
        kind: of the value; the name of a folder.
        key: valid as a file's name.
        value: as JSON holds it.
    """
    text = json.dumps(value).encode()
    with contextlib.suppress(OSError, RuntimeError):
        write_whole(_note(kind, key), lambda stream: stream.write(_checksum(text) + text))


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


def _note(kind: str, key: str) -> Path:
    return cache_dir() / kind / f"{key}.json"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _file(key: str) -> Path:
    return cache_dir() / "images" / f"{key}.npz"
