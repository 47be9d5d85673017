"""The lock of a journal: one process at a time delivers it."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import lock_descriptor

__all__ = ["Lock"]


class Lock:
    """The right to deliver a journal; the kernel takes it back from a process that dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> Lock | None:
        """Return the lock of a journal's folder, None where another has it or the folder is gone."""
        file = folder / "lock"
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            if lock_descriptor(descriptor, blocking=False) and _is_at(descriptor, file):
                return cls(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    """Return whether an open file still is the one at its path: the previous holder of a lock may have deleted it."""
    try:
        return os.fstat(descriptor).st_ino == file.stat().st_ino
    except FileNotFoundError:
        return False
