"""A program that `lab serve` or `lab ui` starts, watches and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from lab.errors import ResourceError
from lab.serve.binaries import Account

__all__ = ["Service", "Stopped"]

_START_SECONDS = 180.0  # creating MLflow's tables on a busy machine with a slow disk
_TICK = 0.1
_LOG_BYTES = 10_000_000  # of a log, before a new one is begun
_TAIL_BYTES = 20_000


class Stopped(Exception):  # noqa: N818  # not an error: it was asked for
    """A stop was asked for while a service was starting."""


class Service(ABC):
    """A program in a session of its own, so that Ctrl-C in the terminal reaches only lab itself.

    Args:
        name: what the user calls it.
        log: file of its output, to which it is added.
        account: which account runs it; that of this process if None.
    """

    stop_signal = signal.SIGTERM
    stop_seconds = 10.0

    def __init__(self, name: str, log: Path, account: Account | None = None) -> None:
        self.name = name
        self.log = log
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command line, without passwords: everybody on this machine can see it."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Return the environment, which only the account itself can see."""

    @abstractmethod
    def folder(self) -> Path:
        """Return the working directory."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether it does its work."""

    @property
    def exit_code(self) -> int | None:
        """The exit code if it has ended by itself, None if it runs."""
        return None if self._process is None else self._process.poll()

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Start it, and wait until it answers.

        Raises:
            ResourceError: it ends instead, or does not answer in time.
            Stopped: `should_stop` was true first.
        """
        self._open()
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self.exit_code is not None:
                raise ResourceError(self.explained(f"exited with code {self.exit_code}"))
            if time.monotonic() > deadline:
                self.stop()
                raise ResourceError(self.explained(f"did not answer within {_START_SECONDS:.0f} s"))
            if should_stop():
                raise Stopped
            time.sleep(_TICK)

    def stop(self) -> None:
        """Stop it in order, and by force if that takes too long; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (self.stop_signal, signal.SIGKILL):
            members = _session(process.pid)  # its leader may have ended before the others
            for each in members:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)
            if _end_within(self.stop_seconds, members, process):
                break

    def _open(self) -> None:
        self.stop()  # what a crash has left of it
        as_account = self._account.options if self._account else {}
        with self._opened_log() as log:
            try:
                self._process = subprocess.Popen(
                    self.command(),
                    cwd=self.folder(),
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    umask=0o077,
                    **as_account,
                )
            except OSError as error:
                raise ResourceError(f"{self.name} cannot be started: {error}") from None

    def _opened_log(self) -> BinaryIO:
        with suppress(OSError):
            if self.log.stat().st_size > _LOG_BYTES:
                self.log.replace(self.log.with_suffix(".old.log"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "ab")

    def explained(self, what: str) -> str:
        """Return what has happened to it, with the last words of its log, and where that is."""
        return f"{self.name} {what}: {self.last_words() or 'it said nothing'}. Its log is {self.log}"

    def last_words(self) -> str:
        """Return the last line of its log that tells of an error, else the last line."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = [
                line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()
            ]
            wrong = [
                line for line in lines if any(word in line for word in ("FATAL", "ERROR", "Error", "error"))
            ]
            return (wrong or lines or [""])[-1]
        return ""


def _session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that have not ended."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # just ended
            if os.getsid(each.pid) == leader and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def _end_within(seconds: float, members: Sequence[psutil.Process], leader: subprocess.Popen[bytes]) -> bool:
    """Wait until all have ended; return False if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while leader.poll() is None or any(map(_is_alive, members)):
        if time.monotonic() > deadline:
            return False
        time.sleep(_TICK)
    return True


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
