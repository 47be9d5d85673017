"""Which machine this is, and which process on it: names that no other machine or process has."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import psutil

__all__ = ["ProcessName", "machine", "process_name", "system"]

_FORM = re.compile(
    # ticks mean nothing without the boot that they are counted from
    r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d|\d+(?=:))(:(?P<system>[0-9a-f]{12}))?"
)
_STEP_SECONDS = 10.0  # by which the clock may have been set since a process was named by it


@cache
def machine() -> str:
    """Return a name of this boot of this machine, by which containers on it know each other; hosts may share a name."""
    try:
        return _short(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    except OSError:  # not Linux
        return _short(socket.gethostname())


@cache
def system() -> str:
    """Return what processes that can see each other have in common: a boot of a machine, and a namespace on it.

    Empty where the system does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # not a path
    except OSError:
        return ""
    return _short(f"{boot}{namespace}")


class ProcessName(NamedTuple):
    """A process: its host, its process id and when it started.

    That is a number of clock ticks since the boot, which stays what it is when the clock is set. Where the system does
    not tell, and in the names of earlier versions, it is in seconds since 1970, with two decimals.

    Hosts may share a name: clones of one image, and containers or pods that have their host's. `system` tells apart
    those whose processes one cannot see; it is empty in the names of earlier versions.
    """

    host: str
    pid: int
    created: str
    system: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that `text` names, None if `text` has another form."""
        found = _FORM.fullmatch(text)
        return (
            None
            if found is None
            else cls(found["host"], int(found["pid"]), found["created"], found["system"] or "")
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.created}" + (f":{self.system}" if self.system else "")

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine, since that was started."""
        return self.host == socket.gethostname() and self.system in ("", system())

    def is_dead(self) -> bool:
        """Return whether it ran on this machine and has exited; False for one elsewhere, of which nothing is known."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            # the id may have been given to another process; and a zombie is dead too
            return not self._began_as(process) or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def _began_as(self, process: psutil.Process) -> bool:
        """Return whether a process that has the id now started when this one did."""
        if "." not in self.created:
            return _ticks(self.pid) == self.created
        # a clock that is set takes along the times at which all processes are said to have started
        return abs(process.create_time() - float(self.created)) <= _STEP_SECONDS


def process_name() -> str:
    """Return `HOST:PID:CREATED`, with when this process started, and `:SYSTEM` if that is known.

    A process keeps its name, even if the host gets another one: its trials are known by it.
    """
    return _process_name(os.getpid())  # a fork is another process


@cache
def _process_name(pid: int) -> str:
    created = _ticks(pid) if system() else f"{psutil.Process(pid).create_time():.2f}"
    return str(ProcessName(socket.gethostname(), pid, created, system()))


def _ticks(pid: int) -> str:
    """Return how many clock ticks after the boot a process started, on Linux.

    Raises:
        NoSuchProcess: there is none with this id.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:  # the latter if it exits right now
        raise psutil.NoSuchProcess(pid) from error
    return stat.rpartition(b")")[2].split()[19].decode("ascii")  # its name, in brackets, may contain anything


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
