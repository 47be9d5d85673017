"""Decoded images, and what is known about images, cached on disk, so that no process finds it out twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lab.errors import LabWarning

__all__ = [
    "alone",
    "cache_dir",
    "cached_arrays",
    "mapped",
    "read_cache",
    "recall",
    "remember",
    "write_cache",
    "write_whole",
]

_CHECKSUM = 64  # characters of a SHA-256: in front of a value, behind an array
_MOST_SECONDS = 600.0  # that one process may make the others wait


def cache_dir() -> Path:
    """Return $LAB_CACHE_DIR, else ~/.cache/lab.

    Raises:
        RuntimeError: neither that variable nor a home folder exists.
    """
    given = os.environ.get("LAB_CACHE_DIR")
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "lab"


def mapped(kind: str, key: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """Return the array that is cached under `key`; if there is none, one process makes it while others wait.

    Like all arrays of the cache, it is mapped from its file: the processes of a machine share one copy of it.

    Args:
        kind: of the array; the name of a folder.
        key: what identifies every number in it; valid as a file's name.
        make: makes the array, of plain numbers.

    Raises:
        Exception: whatever `make` raises.
    """
    found = read_cache(kind, key)
    if found is None:
        with alone(kind, key):
            found = read_cache(kind, key)
            if found is None:
                found = write_cache(kind, key, make())
    return found


def read_cache(kind: str, key: str) -> NDArray[Any] | None:
    """Return the array cached under `key`; None if there is none, or it is damaged."""
    try:
        file = _file(kind, key)
        with file.open("rb") as stream:
            stream.seek(-_CHECKSUM, os.SEEK_END)
            checksum = stream.read()
        array = _map(file)
        if _checksum(array.data) != checksum:
            return None
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))  # `lab gc` deletes what nobody reads
    except (OSError, RuntimeError, ValueError, EOFError):
        return None
    return array


def write_cache(kind: str, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """Cache an array under `key`, and return it mapped from there; warns if that is not possible, and returns it."""
    array = np.ascontiguousarray(array)

    def write(stream: IO[bytes]) -> None:
        np.save(stream, array, allow_pickle=False)
        stream.write(_checksum(array.data))

    try:
        write_whole(_file(kind, key), write)
        return _map(_file(kind, key))
    except (OSError, RuntimeError, ValueError) as error:
        warnings.warn(
            f"decoded images cannot be cached and will be decoded again next time: {error};"
            " set LAB_CACHE_DIR to a writable folder",
            LabWarning,
            stacklevel=2,
        )
    return array


def cached_arrays() -> Iterator[tuple[Path, int, float]]:
    """Yield the file of each cached array, its size in bytes, and when it was last read or written (since 1970)."""
    for pattern in ("*.npy", "*.npz"):  # the second by earlier versions
        for file in sorted(cache_dir().glob(f"*/{pattern}")):
            with contextlib.suppress(OSError):  # deleted just now
                status = file.stat()
                yield file, status.st_size, max(status.st_atime, status.st_mtime)


@contextlib.contextmanager
def alone(kind: str, key: str) -> Iterator[None]:
    """Keep other processes that want to make what is cached under `key` waiting until the end of the block.

    Where nothing can be locked, or somebody has taken ten minutes, nobody waits: the same work is done twice.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, RuntimeError):  # a timeout is an OSError, too
            folder = cache_dir() / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / f"{kind}-{key}.lock", timeout=_MOST_SECONDS))
        yield


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


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _file(kind: str, key: str) -> Path:
    return cache_dir() / kind / f"{key}.npy"


def _map(file: Path) -> NDArray[Any]:
    """Return the array in a file. Whoever writes to it gets a copy of the page: torch has no read-only tensors."""
    array: NDArray[Any] = np.load(file, mmap_mode="c", allow_pickle=False)
    return array
