"""Whether a trial still belongs to this process: one that slept for a while may have been thought dead.

A laptop sleeps, a virtual machine is paused, a disk stalls. Another worker then takes over the trial, and the sleeper
wakes up in the middle of a line of code. Therefore everything that it writes is fenced by a `Hold`, which is asked
right before; a worker that was silent until then sends a heartbeat first, so that its trial is not taken over right
after. Milliseconds remain between the answer and the write, because the database and the tracking store have no
common transaction. A process that sleeps exactly there does one write too many, of something that is or was true: a
point, a tag, a file of the same trial. The run itself says who opened it last, and that is checked before the next
write.
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
    # the monotonic clock stands still while a machine sleeps, and the wall clock may be set back
    known = getattr(time, "CLOCK_BOOTTIME", None)
    asleep: tuple[Clock, ...] = () if known is None else (lambda: time.clock_gettime(known),)
    return (time.monotonic, time.time, *asleep)


CLOCKS = _clocks()


class Lost(Exception):  # noqa: N818  # not an error: the trial is continued elsewhere
    """The trial is another worker's by now; this attempt must not change anything of it."""

    def __init__(self) -> None:
        super().__init__(
            "another worker has taken over this trial, because this one did not respond for a while"
        )


class Stopwatch:
    """Tells the seconds since it was started, including those that one of its clocks slept through or was set back by.

    A clock that is set forward makes them look like more.
    """

    def __init__(self, clocks: Sequence[Clock] = CLOCKS) -> None:
        self._clocks = clocks
        self.restart()

    def now(self) -> tuple[float, ...]:
        """Return the time, for a later `restart`."""
        return tuple(clock() for clock in self._clocks)

    def restart(self, since: tuple[float, ...] | None = None) -> None:
        """Count from `since`, or from now."""
        self._since = since or self.now()

    @property
    def seconds(self) -> float:
        """Seconds since it was started, by the clock that shows the most."""
        return max(now - since for now, since in zip(self.now(), self._since, strict=True))


class Hold:
    """Knows whether a trial still belongs to this process; may be asked from several threads.

    A question that is not answered, because the database is unreachable, changes nothing: no other worker can be given
    the trial then either, and the run itself says who opened it last.

    Args:
        ask: whether it does; raises `LabError` if that cannot be found out now. By default it always does.
        fresh: seconds for which an answer is valid.
        clocks: by which the age of an answer is measured.
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
        self._unanswered: Stopwatch | None = None  # since the last question without an answer
        self._clocks = clocks
        self._lost = self._settled = False

    @property
    def is_certain(self) -> bool:
        """Whether the last answer is still valid."""
        return not self._settled and self._answered.seconds <= self._fresh

    @property
    def is_known(self) -> bool:
        """Whether the last question was answered, the answer is still valid, and the trial belongs to this process."""
        return self._fresh < math.inf and self._unanswered is None and self.is_certain and not self._lost

    def is_lost(self, *, anew: bool = False) -> bool:
        """Return whether another worker has the trial; asks if the last answer is no longer valid, or `anew`."""
        if not self._lost and not self._settled and (anew or not self.is_certain):
            self._find_out(anew)
        return self._lost

    def confirm(self, *, anew: bool = False) -> None:
        """Raise `Lost` if another worker has it."""
        if self.is_lost(anew=anew):
            raise Lost

    def lose(self) -> None:
        """Note that another worker has it."""
        self._lost = True

    def settle(self) -> None:
        """Note that this process is about to put the trial back or to say how it ended, and no longer has it then.

        The trial does not count as lost, because writes may still be on their way; but another worker may open the run
        at once.
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
                # a trial that this process has put back in the meantime is not lost
                self._lost = self._lost or not (held or self._settled)
                self._answered.restart(asked)
                self._unanswered = None
