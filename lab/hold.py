"""Whether a trial still is this process's own: what slept for a while may have been thought dead.

A laptop sleeps, a virtual machine is paused, a disk stalls: then another worker takes the trial over, and the sleeper
wakes in the middle of a line of code. So all that it writes is fenced by a `Hold`, asked right before. Between the
answer and the write lie milliseconds that no database and no tracking store can close together. A process that sleeps
just there does one write too many, of something that is so or was: a point, a tag, a file of the same trial. Who
opened the run since is on the run itself, and is looked at before the next.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from lab.errors import LabError

__all__ = ["Hold", "Lost", "Stopwatch"]

Clock = Callable[[], float]

_AGAIN_SECONDS = 2.0  # before a question that nobody answered is asked again


def _clocks() -> tuple[Clock, ...]:
    # the monotonic one stands still while a machine sleeps, and the wall's may be set back
    known = getattr(time, "CLOCK_BOOTTIME", None)
    asleep: tuple[Clock, ...] = () if known is None else (lambda: time.clock_gettime(known),)
    return (time.monotonic, time.time, *asleep)


CLOCKS = _clocks()


class Lost(Exception):  # noqa: N818  # nothing went wrong here: the trial goes on elsewhere
    """The trial is another worker's by now; this attempt must leave all of it as it is."""

    def __init__(self) -> None:
        super().__init__("another worker has the trial now, as this one did not answer for a while")


class Stopwatch:
    """Tells the seconds since it was started, also those that a clock has slept through or was set back in.

    A clock that is set forward makes them look more than they are.
    """

    def __init__(self, clocks: Sequence[Clock] = CLOCKS) -> None:
        self._clocks = clocks
        self.restart()

    def now(self) -> tuple[float, ...]:
        """Return the time, to `restart` from later."""
        return tuple(clock() for clock in self._clocks)

    def restart(self, since: tuple[float, ...] | None = None) -> None:
        """Count from `since`, or from now."""
        self._since = since or self.now()

    @property
    def seconds(self) -> float:
        """Since it was started, by the clock that says most."""
        return max(now - since for now, since in zip(self.now(), self._since, strict=True))


class Hold:
    """Knows whether a trial still is this process's own; safe to ask from several threads.

    A question that nobody answers, as the database is away, changes nothing: where nobody can ask, nobody can be given
    the trial either, and the run says itself who opened it last.

    Args:
        ask: whether it is; raises `LabError` where that cannot be found out now. Always is by default.
        fresh: seconds for which an answer is good.
        clocks: that tell how old it is.
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
        self._unanswered: Stopwatch | None = None  # since the last question that was not
        self._clocks = clocks
        self._lost = self._settled = False

    @property
    def is_certain(self) -> bool:
        """Whether the last answer still is good."""
        return not self._settled and self._answered.seconds <= self._fresh

    def is_lost(self, *, anew: bool = False) -> bool:
        """Whether somebody else has the trial; asks where the last answer is old, or `anew`."""
        if not self._lost and not self._settled and (anew or not self.is_certain):
            self._find_out(anew)
        return self._lost

    def confirm(self, *, anew: bool = False) -> None:
        """Raise `Lost` where `is_lost`."""
        if self.is_lost(anew=anew):
            raise Lost

    def lose(self) -> None:
        """Note that somebody else has it."""
        self._lost = True

    def settle(self) -> None:
        """Note that this process is about to give the trial back or to say how it ended, and has it no more then.

        What it wrote before may still be on its way, so it is not lost; but somebody else may open the run at once.
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
                # one that this process has given back while it was asked is not lost
                self._lost = self._lost or not (held or self._settled)
                self._answered.restart(asked)
                self._unanswered = None
