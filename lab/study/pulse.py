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


class Pulse:
    """Sends the heartbeats of a claimed trial from a thread; a context manager around its training.

    `cancelled` becomes True when the study is cancelled, `stopped` when a user has ended the trial's cell. `hold` is
    lost when the trial was given to another worker, because this one was thought dead. A database that is unreachable
    for a while changes nothing.
    """

    def __init__(self, queue: TrialQueue, trial_id: int) -> None:
        self.cancelled = self.stopped = False
        self.hold = Hold(lambda: queue.is_mine(trial_id), fresh=HEARTBEAT_SECONDS)
        self._queue = queue
        self._trial_id = trial_id
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
        told = Stopwatch()
        while not self._over.wait(_LOOK_SECONDS):
            with suppress(StudyError):
                if self.hold.is_lost(anew=True):
                    return
                if (
                    told.seconds >= HEARTBEAT_SECONDS
                ):  # by any clock: a machine that wakes up sends one at once
                    self._queue.beat(self._trial_id)
                    told.restart()
                self.cancelled = self.cancelled or self._queue.is_cancelled()
                self.stopped = self.stopped or self._queue.is_stopped(self._trial_id)
