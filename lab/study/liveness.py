"""How often workers send a heartbeat, and for how long a silent one is waited for."""

from __future__ import annotations

from typing import Final

__all__ = ["GRACE_SECONDS", "HEARTBEAT_SECONDS"]

HEARTBEAT_SECONDS: Final = 15
GRACE_SECONDS: Final = 60  # from a worker's last heartbeat until its trial is thought dead
