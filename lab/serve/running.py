"""Which `lab serve` has a folder: one at a time, on one machine at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from lab.errors import ConfigError, ResourceError
from lab.serve.home import Home
from lab.server_file import read_server_file, write_private

__all__ = ["Running", "claimed", "is_noted", "note_stopped", "running_in"]

_LOOK_SECONDS = 1.0  # others have the lock for a moment when they look


@dataclass(frozen=True)
class Running:
    """A `lab serve` that runs, or has died without saying that it stopped."""

    host: str
    pid: int

    @property
    def is_here(self) -> bool:
        """Whether it is one of this machine."""
        return self.host == socket.gethostname()


def running_in(home: Home) -> Running | None:
    """Return the `lab serve` that runs in a folder; None if it was stopped, or its process has ended.

    Of one on another machine nobody can tell here whether it still runs: it counts as running until it says that it
    stopped.
    """
    found = _noted(home)
    if found is not None and found.is_here and _is_unlocked(home):
        return None
    return found


@contextmanager
def claimed(home: Home) -> Iterator[bool]:
    """Claim the folder for this process; yield whether the one that had it last died without stopping its server.

    Raises:
        ResourceError: another `lab serve` has it.
    """
    lock = _acquired(home)
    try:
        last = _noted(home)  # only now: until then, another process might have come and died
        _refuse_elsewhere(home, last)
        try:
            write_private(_file(home), json.dumps(asdict(Running(socket.gethostname(), os.getpid()))))
            yield last is not None
        finally:
            _file(home).unlink(missing_ok=True)
    finally:
        lock.release()


def is_noted(home: Home) -> bool:
    """Return whether a `lab serve` has the folder, or has died in it."""
    return _noted(home) is not None


def note_stopped(home: Home) -> None:
    """Write into the server file that the server was stopped; its addresses stay."""
    try:
        replace(read_server_file(home.server_file), pid=0).write(home.server_file)
    except ConfigError:
        return


def _acquired(home: Home) -> FileLock:
    lock = _lock(home)
    try:
        lock.acquire(timeout=_LOOK_SECONDS)
    except Timeout:
        last = _noted(home)
        _refuse_elsewhere(home, last)
        who = f"process {last.pid}" if last is not None else "another process"
        raise ResourceError(f"`lab serve` already runs in {home.folder}: {who}{_address(home)}") from None
    except (OSError, NotImplementedError) as error:
        raise ResourceError(
            f"{home.server} cannot be locked ({error}): run `lab serve` in a folder of yours on a file system that has "
            "locks"
        ) from None
    return lock


def _refuse_elsewhere(home: Home, last: Running | None) -> None:
    if last is not None and not last.is_here:
        raise ResourceError(
            f"{home.folder} is served by process {last.pid} on {last.host}: use `lab serve --stop` there. "
            f"If that machine is gone for good, delete {_file(home)} and start again"
        )


def _address(home: Home) -> str:
    try:
        server = read_server_file(home.server_file)
    except ConfigError:
        return ""
    return f", at {server.tracking_uri}" if server.pid else ", which is starting"


def _noted(home: Home) -> Running | None:
    try:
        return Running(**json.loads(_file(home).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_unlocked(home: Home) -> bool:
    lock = _lock(home)
    try:
        with lock.acquire(blocking=False):
            return True
    except Timeout:
        return False


def _lock(home: Home) -> FileLock:
    return FileLock(home.server / "lock", mode=0o600)


def _file(home: Home) -> Path:
    return home.server / "running.json"
