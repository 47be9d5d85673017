"""Looking at the server of a folder, stopping it, and starting it in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ConfigError, ResourceError
from lab.serve.home import Home
from lab.serve.leftovers import end_leftovers
from lab.serve.running import claimed, is_noted, note_stopped, running_in
from lab.serve.serving import Started
from lab.server_file import ServerFile, read_server_file

__all__ = ["ServerStatus", "start_detached", "status", "stop"]

_STOP_SECONDS = 120.0  # PostgreSQL's last checkpoint on a slow disk
_TICK = 0.2


@dataclass(frozen=True)
class ServerStatus:
    """What is known about the server of a folder.

    Args:
        file: its server file.
        server: what that says; None if there is none.
        process: the process of `lab serve`, with its machine; empty if none runs.
        silent: the address that does not answer, if there is one.
    """

    file: Path
    server: ServerFile | None
    process: str
    silent: str

    @property
    def started(self) -> Started | None:
        """The server if it runs, and both stores answer."""
        return (
            None
            if self.server is None or not self.process or self.silent
            else Started(self.server, self.file)
        )


def status(folder: Path) -> ServerStatus:
    """Return the status of the server of `folder`.

    Raises:
        ConfigError: its server file cannot be read.
    """
    home = Home(folder.resolve())
    running = running_in(home)
    server = read_server_file(home.server_file) if home.server_file.exists() else None
    return ServerStatus(
        file=home.server_file,
        server=server,
        process=f"process {running.pid} on {running.host}" if running else "",
        silent=server.silent() if server and running else "",
    )


def stop(folder: Path) -> bool:
    """Stop the server of `folder`, and wait until it is down; return whether there was anything to stop.

    Raises:
        ResourceError: it runs on another machine or as another user, or does not stop in time.
    """
    home = Home(folder.resolve())
    running = running_in(home)
    if running is None:
        return _end_what_is_left(home)
    if not running.is_here:
        raise ResourceError(
            f"the server runs on {running.host}, process {running.pid}: use `lab serve --stop` there"
        )
    try:
        os.kill(running.pid, signal.SIGTERM)
    except PermissionError:
        raise ResourceError(
            f"process {running.pid}, which serves {folder}, belongs to another user"
        ) from None
    except ProcessLookupError:  # just now
        pass
    deadline = time.monotonic() + _STOP_SECONDS
    while running_in(home) is not None:
        if time.monotonic() > deadline:
            raise ResourceError(
                f"process {running.pid} is still stopping after {_STOP_SECONDS:.0f} s; its logs are in {home.server}"
            )
        time.sleep(_TICK)
    return True


def start_detached(folder: Path, arguments: Sequence[str]) -> Started:
    """Start `lab serve` with `arguments` in the background, and return once it answers; it outlives this process.

    Raises:
        ResourceError: it ends instead, or the folder cannot be written.
    """
    home = Home(folder.resolve())
    log = home.log("serve")
    try:
        home.server.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise ResourceError(f"{home.server} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "ab") as output:
        said_before = os.fstat(descriptor).st_size
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while process.poll() is None:
        server = _server_of(home, process.pid)
        if server is not None:
            return Started(server, home.server_file)
        time.sleep(_TICK)
    said = log.read_bytes()[said_before:].decode(errors="replace").strip().rpartition("\n")[2]
    raise ResourceError(said.removeprefix("Error: ") or f"it exited with code {process.returncode}")


def _server_of(home: Home, pid: int) -> ServerFile | None:
    """Return what the server file says if `pid` wrote it."""
    try:
        server = read_server_file(home.server_file)
    except ConfigError:
        return None
    return server if server.pid == pid else None


def _end_what_is_left(home: Home) -> bool:
    """End what a `lab serve` that was killed has left running."""
    if not is_noted(home):
        return False
    with claimed(home):
        ended = end_leftovers(home)
        note_stopped(home)
    return ended
