"""Side jobs of a process that keeps workers: it lets them wake up after a sleep, and delivers what dead ones left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lab.engines.stores import Stores
from lab.errors import LabError
from lab.hold import Stopwatch
from lab.study import HEARTBEAT_SECONDS
from lab.tracking import connect, deliver

__all__ = ["Leftovers", "Sleep"]

_WAKE_SECONDS = 5.0  # for workers that slept too to send a heartbeat: they check every two seconds
_FIRST_PAUSE, _LONGEST_PAUSE = (
    15.0,
    240.0,
)  # between looks for journals; longer while the store is unreachable
_JOIN_SECONDS = 1.0


class Sleep:
    """Notices that this process has slept, so that workers which were silent in that time are not thought dead."""

    def __init__(self) -> None:
        self._watch = Stopwatch()

    def pass_over(self) -> None:
        """Wait a little after a sleep. Call this every few seconds."""
        if self._watch.seconds > HEARTBEAT_SECONDS:
            time.sleep(_WAKE_SECONDS)
        self._watch.restart()


class Leftovers:
    """Delivers, from its own thread, the journals that no living process holds.

    Args:
        stores: the folder of the journals, and the store that they are for.
        tell: called with a message that says what was delivered.
    """

    def __init__(self, stores: Stores, tell: Callable[[str], None]) -> None:
        self._stores = stores
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="journals left", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Start no more deliveries."""
        self._over.set()
        self._thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE) if self._deliver() else _FIRST_PAUSE

    def _deliver(self) -> bool:
        """Deliver what there is; return whether the store is unreachable."""
        stores = self._stores
        try:
            done = deliver(connect(stores.tracking_uri, stores.artifact_dir), stores.journal_dir)
        except LabError:  # `lab sync` tells
            return True
        if done.writes:
            self._tell(f"Delivered {done.delivered} left by a process that has died")
        return bool(done.away)
