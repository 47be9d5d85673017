"""Which process a worker is, and whether that process still lives."""

from __future__ import annotations

import os
import re
import socket
from typing import Final, NamedTuple, Self

import psutil

__all__ = ["GRACE_SECONDS", "HEARTBEAT_SECONDS", "WorkerName", "worker_name"]

HEARTBEAT_SECONDS: Final = 15
GRACE_SECONDS: Final = 60  # from a worker's last heartbeat until its trial is thought dead
_FORM = re.compile(r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d)")


class WorkerName(NamedTuple):
    """A worker's process: its host, its process id and when it started, as seconds since 1970 with two decimals."""

    host: str
    pid: int
    created: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that `text` names, None if `text` has another form."""
        found = _FORM.fullmatch(text)
        return None if found is None else cls(found["host"], int(found["pid"]), found["created"])

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.created}"

    def is_dead(self) -> bool:
        """Return whether it ran on this machine and has exited. Only its heartbeat tells that of another machine's."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            # the id may have been given to another process; and a zombie is dead too
            return f"{process.create_time():.2f}" != self.created or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def worker_name() -> str:
    """Return the name that tells this process from every other."""
    created = f"{psutil.Process().create_time():.2f}"
    return str(WorkerName(socket.gethostname(), os.getpid(), created))
