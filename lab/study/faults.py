"""Waiting for a database that is away, or locked: what broke off is done again when it is back."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from lab.errors import LabWarning, StudyError

__all__ = ["Patience", "is_denied"]

Result = TypeVar("Result")

_MOST_SECONDS = 300.0  # a server that takes longer to come back is away for good
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_TICK = 0.5  # seconds between looks at `should_stop`
_LOCKED = "database is locked"  # SQLite's, after a minute: by a process that was stopped in a transaction
_DENIED = re.compile(
    r"authentication failed for user|no password supplied|no pg_hba\.conf entry|role \S+ does not exist"
)


class Patience:
    """Does things with a database, and does them again where it was away.

    What is done must be safe to do twice: the connection may have broken after it was done, before that was heard.

    Args:
        database: its address, as the user may see it.
        should_stop: True ends the waiting.
    """

    def __init__(self, database: str, should_stop: Callable[[], bool]) -> None:
        self._database = database
        self._should_stop = should_stop
        self._within = threading.local()
        self._told = False  # that it is away, since it last was there
        self._given_up = False

    def __call__(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns. Within another such call that one is done again, all of it.

        Raises:
            StudyError: the database is away for good, or a stop was asked for while it was.
        """
        if getattr(self._within, "a_call", False):
            return call()
        self._within.a_call = True
        try:
            return self._persist(call)
        finally:
            self._within.a_call = False

    def _persist(self, call: Callable[[], Result]) -> Result:
        end, pause = time.monotonic() + _MOST_SECONDS, _FIRST_PAUSE
        while True:
            try:
                result = call()
            except (sa.exc.DBAPIError, StorageInternalError) as error:
                if not _is_away(error):
                    raise
                reason = _reason(error)
                if self._given_up or time.monotonic() >= end or self._should_stop():
                    self._given_up = True  # whatever else is tried must not wait as long once more
                    raise StudyError(
                        f"--storage {self._database} cannot be reached: {reason}."
                        " Nothing that was trained is lost; start again when it is back"
                    ) from None
                self._tell(reason)
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._told = self._given_up = False
                return result

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"--storage {self._database} cannot be reached: {reason}. Waiting for it,"
                f" at most {_MOST_SECONDS / 60:.0f} minutes",
                LabWarning,
                stacklevel=2,
            )

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._should_stop() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))


def _is_away(error: BaseException) -> bool:
    """Whether the server could not be reached, or went in the middle of something; or somebody sleeps on the file."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, sa.exc.DBAPIError) or is_denied(cause.orig):
        return False
    if str(cause.orig) == _LOCKED:
        return True
    # PostgreSQL's drivers give no code where there was no connection; 57P is a server that stops or starts
    code = getattr(cause.orig, "sqlstate", "") or ("08" if hasattr(cause.orig, "sqlstate") else "")
    return cause.connection_invalidated or (
        isinstance(cause, sa.exc.OperationalError) and code.startswith(("08", "57P"))
    )


def is_denied(error: object) -> bool:
    """Whether PostgreSQL turned a connection away for its role or its password; the drivers give no code for it."""
    return bool(_DENIED.search(str(error)))


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return str(getattr(cause, "orig", None) or cause).strip().splitlines()[0].rstrip(".")
