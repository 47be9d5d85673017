"""Queueing the cells of a study while its first ones are trained."""

from __future__ import annotations

import threading
from typing import Self

from lab.study import Filling

__all__ = ["Filler"]


class Filler:
    """Queues the rest of a study's cells in a thread of its own, during a `with` block.

    What is left at the end of the block is queued when the same grid is submitted again.

    Args:
        filling: what is to be queued.
    """

    def __init__(self, filling: Filling) -> None:
        self._filling = filling
        self._ending = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._fill, name="filler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def is_done(self) -> bool:
        """Return whether all cells are queued.

        Raises:
            Exception: what has kept the thread from going on.
        """
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _fill(self) -> None:
        try:
            while self._filling.left and not self._ending.is_set():
                self._filling.take_turn()
        except Exception as error:  # noqa: BLE001  # `is_done` raises it in the thread that asks
            self._error = error
