"""A stop that is asked for once, from anywhere, and waited for."""

from __future__ import annotations

import threading
from contextlib import suppress

__all__ = ["Stop"]


class Stop:
    """Whether a stop was asked for; call it to find out.

    Any thread may ask, and so may a signal handler. `threading.Event` would not do: a handler that sets one can
    interrupt the very thread that holds its lock, and then waits forever.
    """

    def __init__(self) -> None:
        self._asked = False
        self._latch = threading.Lock()  # held until the stop is asked for
        self._latch.acquire()

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._asked

    def ask(self) -> None:
        """Ask for the stop; doing so again changes nothing."""
        self._asked = True
        with suppress(RuntimeError):  # it was asked for already
            self._latch.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the stop for at most `seconds`; return whether it was asked for."""
        if not self._asked and self._latch.acquire(timeout=seconds):
            with suppress(RuntimeError):
                self._latch.release()  # for whoever else waits
        return self._asked
