"""The lock of a journal: one process at a time delivers it.

Two things make it. A lock of the file system ends with its process, but on some shared file systems other machines do
not see it. So a file names the holder as well: one on another machine is thought to live as long as it renews that.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from filelock import lock_descriptor

from lab.identity import machine, process_name

__all__ = ["Lock", "is_held_elsewhere", "release_journals"]

_RENEW_SECONDS = 15.0
_SILENT_SECONDS = 120.0  # after which a holder on another machine is thought dead
_ASK_SECONDS = 60.0  # for which the clock of a file system is known
_CLOCKS: dict[
    Path, tuple[float, float]
] = {}  # by folder: when it was asked, and how far it is ahead of our monotonic one


class Lock:
    """The right to deliver a journal; it ends with its process."""

    name: ClassVar[str] = "lock"  # of the file in the journal's folder
    holder: ClassVar[str] = "holder"  # of the file that names who has it

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._holder = folder / self.holder
        self._descriptor = descriptor
        _RENEWAL.include(self)

    @classmethod
    def take(cls, folder: Path) -> Lock | None:
        """Return the lock of a journal's folder, None if another process has it or the folder is gone.

        Raises:
            PermissionError: it is another user's.
        """
        file = folder / cls.name
        if is_held_elsewhere(folder):
            return None
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            if lock_descriptor(descriptor, blocking=False) and _is_at(descriptor, file) and _claim(folder):
                return cls(folder, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def renew(self) -> None:
        """Show other machines that the holder lives."""
        with suppress(OSError):
            if self._is_ours:
                os.utime(self._holder)

    def release(self) -> None:
        """Release the lock."""
        _RENEWAL.exclude(self)
        with suppress(OSError):
            if self._is_ours:
                self._holder.unlink()
        os.close(self._descriptor)

    @property
    def _is_ours(self) -> bool:
        """Whether no other machine has taken it, having thought this one dead."""
        return self._holder.read_text(encoding="utf-8") == _own()


def is_held_elsewhere(folder: Path) -> bool:
    """Return whether a process on another machine, which is not known to be dead, has a journal."""
    seen = _read(folder / Lock.holder)
    return seen is not None and _lives_elsewhere(seen, folder)


def release_journals(folder: Path, processes: Collection[str]) -> None:
    """Let others have the journals in `folder` of processes that are known to have exited, on whatever machine."""
    for file in folder.glob(f"*/{Lock.holder}"):
        with suppress(OSError):
            if file.read_text(encoding="utf-8").partition(" ")[2] in processes:
                file.unlink()


class _Seen(NamedTuple):
    """What a holder's file said, and when it was renewed."""

    whose: str
    renewed: int  # in nanoseconds, by the clock of the file system


def _read(file: Path) -> _Seen | None:
    try:
        with file.open(encoding="utf-8") as opened:  # opening it asks a file server anew
            return _Seen(opened.read(), os.fstat(opened.fileno()).st_mtime_ns)
    except OSError:  # nobody has it, or it has just been deleted
        return None


def _lives_elsewhere(seen: _Seen, folder: Path) -> bool:
    return seen.whose.partition(" ")[0] != machine() and not _is_silent(seen, folder)


def _is_silent(seen: _Seen, folder: Path) -> bool:
    with suppress(OSError):  # without its clock, nobody is thought dead
        return _now(folder.parent) - seen.renewed / 1e9 >= _SILENT_SECONDS
    return False


def _claim(folder: Path) -> bool:
    """Note that this process is the holder; return whether none on another machine was quicker."""
    file = folder / Lock.holder
    seen = _read(file)
    if seen is None:
        return _create(file)
    return not _lives_elsewhere(seen, folder) and _replace(file, seen)


def _replace(file: Path, seen: _Seen) -> bool:
    """Take the place of a dead holder, if it is still the one that was seen: exactly one process gets to."""
    mark = file.with_name(f"{file.name}.{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}")
    if not _create(mark):
        left = _read(mark)
        if left is not None and _is_silent(left, file.parent):  # killed right here
            mark.unlink(missing_ok=True)
        return False
    try:
        if _read(file) != seen:
            return False
        scratch = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        scratch.write_text(_own(), encoding="utf-8")
        scratch.replace(file)
        return True
    finally:
        mark.unlink(missing_ok=True)


def _create(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (FileExistsError, FileNotFoundError):  # the latter if the journal was just deleted
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(_own())
    except OSError:  # the disk is full: an empty file would pass for one of another machine
        file.unlink()
        raise
    return True


def _own() -> str:
    return f"{machine()} {process_name()}"


def _now(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, which is not that of this machine on a file server."""
    asked, ahead = _CLOCKS.get(folder, (-_ASK_SECONDS, 0.0))
    if time.monotonic() >= asked + _ASK_SECONDS:
        with tempfile.TemporaryFile(dir=folder) as file:
            ahead = os.fstat(file.fileno()).st_mtime - time.monotonic()
        _CLOCKS[folder] = time.monotonic(), ahead
    return time.monotonic() + ahead


def _is_at(descriptor: int, file: Path) -> bool:
    """Return whether an open file is still the one at its path: the lock's previous holder may have deleted it."""
    try:
        return os.fstat(descriptor).st_ino == file.stat().st_ino
    except FileNotFoundError:
        return False


class _Renewal:
    """Renews the locks of this process, from a thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks = weakref.WeakSet[Lock]()
        self._thread: threading.Thread | None = None

    def include(self, lock: Lock) -> None:
        """Renew a lock from now on."""
        with self._guard:
            self._locks.add(lock)
            if self._thread is None or not self._thread.is_alive():  # as in a fork
                self._thread = threading.Thread(target=self._work, name="journal locks", daemon=True)
                self._thread.start()

    def exclude(self, lock: Lock) -> None:
        """Renew a lock no longer."""
        with self._guard:
            self._locks.discard(lock)

    def _work(self) -> None:
        pause = threading.Event()
        while not pause.wait(_RENEW_SECONDS):
            with self._guard:
                locks = list(self._locks)
            for lock in locks:
                lock.renew()


_RENEWAL = _Renewal()
