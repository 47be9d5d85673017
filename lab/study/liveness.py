"""How often workers send a heartbeat, for how long a silent one is waited for, and which are known to be awake."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psutil

from lab.identity import ProcessName

__all__ = ["GRACE_SECONDS", "HEARTBEAT_SECONDS", "LOCKED_SECONDS", "is_awake_here"]

HEARTBEAT_SECONDS: Final = 15
GRACE_SECONDS: Final = 60  # from a worker's last heartbeat until its trial is thought dead
# the same, of one that is awake on this machine: longer than any waits for the database
LOCKED_SECONDS: Final = 600


def is_awake_here(process: ProcessName) -> bool:
    """Return whether a process runs on this machine now, neither dead nor stopped."""
    if not process.is_here or process.is_dead():
        return False
    with suppress(psutil.Error):
        return psutil.Process(process.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False
