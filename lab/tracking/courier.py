"""A thread for each open run that delivers its journal while the trial trains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

from lab.errors import ResourceError, TrackingError
from lab.tracking.base import Tracker, UnavailableError
from lab.tracking.delivery import Delivery, RefusedError
from lab.tracking.journal import RunJournal

__all__ = ["Courier", "Gate"]


class Gate:
    """Remembers for some seconds that the store did not answer, so that not every call waits to find out."""

    memory: ClassVar[float] = 15.0  # seconds

    def __init__(self) -> None:
        self._until = 0.0
        self.reason = ""

    @property
    def is_shut(self) -> bool:
        """Whether the store did not answer a short while ago."""
        return time.monotonic() < self._until

    def shut(self, reason: str) -> None:
        """Note that the store does not answer."""
        self._until, self.reason = time.monotonic() + self.memory, reason

    def open(self) -> None:
        """Note that it does."""
        self._until = 0.0


class Courier:
    """Delivers one run's journal from a thread of its own, for as long as the store needs to take it.

    Args:
        journal: of the run, which this object closes when it is done.
        tracker: the store.
        gate: told whether the store answers.
        fresh: whether the journal has just been created.
        finished: called before the thread ends by itself; False lets it go on.
    """

    # seconds before the first and between later tries while the store is away
    first_pause: ClassVar[float] = 1.0
    longest_pause: ClassVar[float] = 30.0

    def __init__(
        self,
        journal: RunJournal,
        tracker: Tracker,
        gate: Gate,
        *,
        fresh: bool,
        finished: Callable[[Courier], bool],
    ) -> None:
        self.journal = journal
        self.delivery = Delivery(journal, tracker, fresh=fresh)
        self.refusal: TrackingError | None = None
        self.since = (
            0  # number of the operation with which the present attempt began; refusals before it are not its
        )
        self.over = False  # whether nothing more is to come
        self.tries = 0  # that failed because the store was away
        self.writers = 0  # just now
        self._gate = gate
        self._finished = finished
        self._changed = threading.Condition()
        self._offered = threading.Event()
        self._again = threading.Event()  # do not wait for the pause to end
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def offer(self) -> None:
        """Say that there is something to deliver; returns at once."""
        self._offered.set()

    def await_try(self, number: int, tries: int, patience: float) -> None:
        """Wait until an operation was delivered or refused, or could not be delivered now.

        Args:
            number: of the operation.
            tries: `self.tries` before it was added.
            patience: most seconds to wait.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.tries > tries or not self.journal.waiting(number), max(0.0, patience)
            )

    def flush(self, deadline: float) -> None:
        """Wait until nothing waits, or for `deadline` (of the monotonic clock)."""
        while self._thread.is_alive() and time.monotonic() < deadline and self._waits():
            self._again.set()
            with self._changed:
                self._changed.wait(min(0.5, max(0.0, deadline - time.monotonic())))

    def stop(self) -> None:
        """Deliver nothing more; what is on its way just now may still arrive."""
        self._stopped = True
        self._offered.set()
        self._again.set()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _waits(self) -> bool:
        return not self.journal.is_blocked() and self.journal.waiting() > 0

    def _work(self) -> None:
        pause = self.first_pause
        try:
            while not self._stopped:
                try:
                    delivered = self._step()
                except (UnavailableError, ResourceError) as error:
                    if isinstance(error, UnavailableError):
                        self._gate.shut(str(error))
                    self._tell(tried=True)
                    self._again.wait(pause)
                    self._again.clear()
                    pause = min(2 * pause, self.longest_pause)
                    continue
                pause = self.first_pause
                self._tell()
                if not delivered and self.over and self._finished(self):
                    return
                if not delivered:
                    self._offered.wait()
                    self._offered.clear()
        finally:
            self.journal.close()
            self._tell()

    def _step(self) -> int:
        try:
            delivered = self.delivery.step()
        except RefusedError as error:
            if error.number >= self.since:
                self.refusal = error
            delivered = 1
        if delivered:
            self._gate.open()
        return delivered

    def _tell(self, *, tried: bool = False) -> None:
        with self._changed:
            self.tries += tried
            self._changed.notify_all()
