"""Digests of files: each file is read once, and recognised by its size, times and inode from then on."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.data.cache import recall, remember
from lab.data.chunks import by_chunks

__all__ = ["content_digests"]

_FRESH = 2_000_000_000  # nanoseconds: a file changed this recently may change again under the same modification time

_Known = list[Any]  # size, modification time, status change time (which cannot be set back), inode, digest


def content_digests(root: Path, files: Sequence[str]) -> list[str]:
    """Return the SHA-256 of each file's contents; only files that have changed since the last time are read.

    Args:
        root: their folder, absolute.
        files: paths relative to `root`, or absolute ones.

    Raises:
        OSError: a file cannot be read.
    """
    known: Mapping[str, _Known] = recall("contents", _key(root)) or {}
    began = time.time_ns()

    def look(start: int, stop: int) -> list[_Known]:
        # 60,000 Paths take a second
        return [_look(os.path.join(root, file), known.get(file)) for file in files[start:stop]]  # noqa: PTH118

    found = [entry for chunk in by_chunks(len(files), look, "Reading images") for entry in chunk]
    settled = {
        file: entry
        for file, entry in zip(files, found, strict=True)
        if max(entry[1], entry[2]) < began - _FRESH
    }
    if settled != known:
        remember("contents", _key(root), settled)
    return [entry[-1] for entry in found]


def _look(file: str, known: _Known | None) -> _Known:
    status = os.stat(file)  # noqa: PTH116  # of very many files
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    if known is not None and known[:-1] == stamp:
        return known
    with open(file, "rb", buffering=0) as stream:  # noqa: PTH123  # the same
        return [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]


def _key(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
