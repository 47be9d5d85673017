"""What a worker does while it trains: sends heartbeats, and finds out whether its trial is still its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from lab.errors import StudyError
from lab.hold import Hold, Stopwatch
from lab.study.liveness import HEARTBEAT_SECONDS
from lab.study.queue import TrialQueue

__all__ = ["Pulse"]

_LOOK_SECONDS = 2.0
_OVERDUE_SECONDS = 2.0 * HEARTBEAT_SECONDS  # of silence: this process slept, or the database was away


class Pulse:
    """Sends the heartbeats of a claimed trial from a thread; a context manager around its training.

    `cancelled` becomes True when the study is cancelled, `stopped` when a user has ended the trial's cell. `hold` is
    lost when the trial was given to another worker, because this one was thought dead. A database that is unreachable
    for a while changes nothing.
    """

    def __init__(self, queue: TrialQueue, trial_id: int) -> None:
        self.cancelled = self.stopped = False
        self.hold = Hold(self._is_mine, fresh=HEARTBEAT_SECONDS)
        self._queue = queue
        self._trial_id = trial_id
        self._told = Stopwatch()  # since the last heartbeat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(StudyError):
                if self.hold.is_lost(anew=True):
                    return
                if self._told.seconds >= HEARTBEAT_SECONDS:
                    began = self._told.now()  # it may sleep in between
                    self._queue.beat(self._trial_id)
                    self._told.restart(began)
                self.cancelled = self.cancelled or self._queue.is_cancelled()
                self.stopped = self.stopped or self._queue.is_stopped(self._trial_id)

    def _is_mine(self) -> bool:
        """Whether the trial belongs to this process, and will until that has used the answer.

        A worker that has just woken up may still have its trial, and be found silent at the next moment. So it sends
        a heartbeat first.
        """
        if self._told.seconds < _OVERDUE_SECONDS:  # by any clock, so including sleep
            return self._queue.is_mine(self._trial_id)
        began = self._told.now()
        is_mine = self._queue.renew(self._trial_id)
        self._told.restart(began)
        return is_mine
