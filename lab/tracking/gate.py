"""Whether a store answers: asked with patience, remembered for some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

from lab.tracking.base import UnavailableError

__all__ = ["Gate"]

Answer = TypeVar("Answer")


class Gate:
    """Remembers for some seconds that the store did not answer, so that not every call has to find out."""

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

    def ask(self, question: Callable[[], Answer], store: str, patience: float) -> Answer:
        """Return the answer of a store.

        Raises:
            UnavailableError: there was none within `patience` seconds, or within as many a short while ago.
        """
        if self.is_shut:
            raise UnavailableError(self.reason)
        answers: list[Answer] = []
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                answers.append(question())
            except BaseException as error:  # noqa: BLE001  # raised below
                errors.append(error)

        thread = threading.Thread(target=ask, name="asking the store", daemon=True)
        thread.start()
        thread.join(patience)
        if thread.is_alive():
            errors.append(UnavailableError(f"{store} did not answer within {patience:g} seconds"))
        for error in errors:
            if isinstance(error, UnavailableError):
                self.shut(str(error))
            raise error
        return answers[0]
