"""What a supervisor does besides supervising: it waits for workers to wake up, and delivers what dead ones left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lab.engines.stores import Stores
from lab.errors import LabError
from lab.hold import Stopwatch
from lab.stopping import Stop
from lab.study import HEARTBEAT_SECONDS
from lab.tracking import connect, deliver

__all__ = ["Leftovers", "Sleep"]

_WAKE_SECONDS = 5.0  # for workers that slept too to show that they are alive, which they do every two seconds
_FIRST_PAUSE, _LONGEST_PAUSE = (
    15.0,
    240.0,
)  # between looks for journals; longer while the store is unreachable
_JOIN_SECONDS = 1.0


class Sleep:
    """Notices that this process has slept: workers that have been silent since then need not be dead."""

    def __init__(self) -> None:
        self._watch = Stopwatch()

    def pass_over(self) -> None:
        """Wait a little after a sleep; must be called every few seconds."""
        if self._watch.seconds > HEARTBEAT_SECONDS:
            time.sleep(_WAKE_SECONDS)
        self._watch.restart()


class Leftovers:
    """Delivers, from a thread of its own, the journals that no living process holds.

    Args:
        stores: where the journals are, and where they are delivered to.
        tell: called with a sentence about what was delivered.
    """

    def __init__(self, stores: Stores, tell: Callable[[str], None]) -> None:
        self._stores = stores
        self._tell = tell
        self._stop = Stop()
        self._thread = threading.Thread(target=self._work, name="journals left", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Start no more deliveries."""
        self._stop.ask()
        self._thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
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
        for run in done.ended:
            self._tell(f"Ended the run {run} as KILLED, because its process has died")
        return bool(done.away)
