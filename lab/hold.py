"""Whether a trial still belongs to this process: if it slept for a while, others may have thought it dead.

A laptop sleeps, a virtual machine is paused, a disk stalls: another worker takes over the trial, and the sleeper wakes
up in the middle of a line of code. So a `Hold` fences everything that it writes, and is asked right before each write.
The milliseconds between the answer and the write remain, because the database and the tracking store have no common
transaction. A process that sleeps just then does one write too many, but of something true of the trial: a metric
value, a tag, a file. Before the next write it sees on the run itself who has opened it since.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from lab.errors import LabError

__all__ = ["Hold", "Lost", "Stopwatch"]

Clock = Callable[[], float]

_AGAIN_SECONDS = 2.0  # before an unanswered question is asked again


def _clocks() -> tuple[Clock, ...]:
    # the monotonic clock stops while a machine sleeps, and the wall clock may be set back
    known = getattr(time, "CLOCK_BOOTTIME", None)
    asleep: tuple[Clock, ...] = () if known is None else (lambda: time.clock_gettime(known),)
    return (time.monotonic, time.time, *asleep)


CLOCKS = _clocks()


class Lost(Exception):  # noqa: N818  # no error: the trial continues elsewhere
    """Another worker has the trial now; this attempt must leave everything as it is."""

    def __init__(self) -> None:
        super().__init__("another worker has the trial now, as this one did not answer for a while")


class Stopwatch:
    """Measures the seconds since it was started, including those in which a clock stood still or was set back.

    A clock that is set forward makes it measure too much.
    """

    def __init__(self, clocks: Sequence[Clock] = CLOCKS) -> None:
        self._clocks = clocks
        self.restart()

    def now(self) -> tuple[float, ...]:
        """Return the current time, for a later `restart`."""
        return tuple(clock() for clock in self._clocks)

    def restart(self, since: tuple[float, ...] | None = None) -> None:
        """Count from `since`, or from now."""
        self._since = since or self.now()

    @property
    def seconds(self) -> float:
        """The time since it was started, by the clock that shows the most."""
        return max(now - since for now, since in zip(self.now(), self._since, strict=True))


class Hold:
    """Knows whether a trial still belongs to this process. It may be asked from several threads.

    If the database is unreachable, nothing changes: while it cannot be asked, it cannot give the trial to another
    worker either, and the run itself tells who opened it last.

    Args:
        ask: returns whether the trial is held, and raises `LabError` if that is unknown now. Always held by default.
        fresh: seconds for which an answer is valid.
        clocks: measure the age of an answer.
    """

    def __init__(
        self,
        ask: Callable[[], bool] = lambda: True,
        *,
        fresh: float = math.inf,
        clocks: Sequence[Clock] = CLOCKS,
    ) -> None:
        self._ask = ask
        self._fresh = fresh
        self._lock = threading.Lock()
        self._answered = Stopwatch(clocks)
        self._unanswered: Stopwatch | None = None  # since the last unanswered question
        self._clocks = clocks
        self._lost = self._settled = False

    @property
    def is_certain(self) -> bool:
        """Whether the last answer is still valid."""
        return not self._settled and self._answered.seconds <= self._fresh

    def is_lost(self, *, anew: bool = False) -> bool:
        """Return whether another worker has the trial; ask if the last answer is too old, or if `anew`."""
        if not self._lost and not self._settled and (anew or not self.is_certain):
            self._find_out(anew)
        return self._lost

    def confirm(self, *, anew: bool = False) -> None:
        """Raise `Lost` if `is_lost`."""
        if self.is_lost(anew=anew):
            raise Lost

    def lose(self) -> None:
        """Note that another worker has the trial."""
        self._lost = True

    def settle(self) -> None:
        """Note that this process is about to give up the trial: to return it to the queue, or to report its end.

        Earlier writes may still be on their way, so the trial is not lost; but another worker may open the run at once.
        """
        self._settled = True

    def _find_out(self, anew: bool) -> None:
        with self._lock:
            tried = self._unanswered
            if not anew and (self.is_certain or (tried is not None and tried.seconds < _AGAIN_SECONDS)):
                return  # another thread has just asked
            asked = self._answered.now()
            try:
                held = self._ask()
            except LabError:
                self._unanswered = Stopwatch(self._clocks)
            else:
                # a trial that this process gave up during the question is not lost
                self._lost = self._lost or not (held or self._settled)
                self._answered.restart(asked)
                self._unanswered = None
