"""Which process a worker is, and whether that process still lives."""

from __future__ import annotations

import re
import socket
from typing import Final, NamedTuple, Self

import psutil

from lab.identity import process_name, system

__all__ = ["GRACE_SECONDS", "HEARTBEAT_SECONDS", "WorkerName", "worker_name"]

HEARTBEAT_SECONDS: Final = 15
GRACE_SECONDS: Final = 60  # from a worker's last heartbeat until its trial is thought dead
_FORM = re.compile(r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d)(:(?P<system>[0-9a-f]{12}))?")


class WorkerName(NamedTuple):
    """A worker's process: its host, its process id and when it started, as seconds since 1970 with two decimals.

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

    def is_dead(self) -> bool:
        """Return whether it ran on this machine and has exited. Only its heartbeat tells that of another machine's."""
        if self.host != socket.gethostname() or self.system not in ("", system()):
            return False
        try:
            process = psutil.Process(self.pid)
            # the id may have been given to another process; and a zombie is dead too
            return f"{process.create_time():.2f}" != self.created or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def worker_name() -> str:
    """Return the name that tells this process from every other."""
    return process_name()
