"""Workers of a cluster that cannot go on: one bad node must not end a sweep, but a sweep that cannot work must end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lab.engines.supervisor import PAUSE_SECONDS

__all__ = ["Setbacks"]

_LEAST = 3  # failures in a row that are no single node's, however few workers there are
_SHOWN_SECONDS = 120.0


@dataclass
class Setbacks:
    """Counts workers that failed one after another; none starts for a while after each.

    Args:
        workers: of a cluster, at most; None where all are on this machine, and a failure is everybody's.
    """

    workers: int | None = None
    error: str = ""  # of the last one
    _count: int = 0
    _at: float = -_SHOWN_SECONDS

    @property
    def pauses(self) -> bool:
        """Whether it is too early to start another worker."""
        return self._count > 0 and time.monotonic() - self._at < PAUSE_SECONDS

    @property
    def notes(self) -> list[str]:
        """What to show of the last one while it is recent."""
        return [self.error] if time.monotonic() - self._at < _SHOWN_SECONDS else []

    def add(self, error: Exception, *, others_train: bool, is_nodes: bool = True) -> bool:
        """Take in a failure; return whether it can be borne.

        Args:
            error: what has failed.
            others_train: whether other workers are training now, so that the cluster works.
            is_nodes: whether a worker has said that its node is not fit; otherwise it may be so on every node.
        """
        self._count += 1
        most = 0 if self.workers is None or not is_nodes else max(self.workers, _LEAST)
        borne = self.workers is not None and (others_train or self._count < most)
        if borne:
            self.error, self._at = str(error).partition("\n")[0], time.monotonic()
        return borne

    def clear(self) -> None:
        """Take in that a worker has trained something."""
        self._count = 0
