"""What the errors of a study database mean: which are worth waiting for, and how the others are explained.

This is the only place that knows the errors of SQLAlchemy and of its drivers. Everything above it sees a `StudyError`.
"""

from __future__ import annotations

import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from lab.errors import LabWarning, StudyError
from lab.hold import Stopwatch

__all__ = ["DatabaseError", "DeletedError", "MalformedError", "Retry", "is_denied", "reason", "translated"]

Result = TypeVar("Result")

_LONGEST_SECONDS = 300.0  # a server that takes longer to come back is down for good
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_TICK = 0.5  # seconds between looks at `should_stop`
_LOCKED = "database is locked"  # SQLite's, after a minute: by a process that was stopped in a transaction
_DENIED = re.compile(
    r"authentication failed for user|no password supplied|no pg_hba\.conf entry|role \S+ does not exist"
)
_CREDENTIALS = (
    ". Name role and password in the address, or the password in PGPASSWORD or a file that PGPASSFILE names"
)
_DRIVER = ": pip install 'lab[postgres]'"  # the driver of addresses that name none


class DatabaseError(StudyError):
    """A database that cannot be reached, signed in to or used: none of its studies can be worked on."""


class MalformedError(StudyError):
    """An attribute that lab cannot read: its study cannot be worked on, others in the database can.

    Args:
        database: its address, as the user may see it.
        why: what is wrong with the attribute.
    """

    def __init__(self, database: str, why: str) -> None:
        self.why = why
        super().__init__(f"--storage {database} cannot be used: {why}")


class DeletedError(StudyError):
    """A study, or a trial of it, that another program has deleted since it was looked up.

    Args:
        database: its address, as the user may see it.
    """

    def __init__(self, database: str) -> None:
        super().__init__(
            f"--storage {database} no longer has this study, or a trial of it: another program has deleted it. What"
            " was tracked is still in MLflow; the next `lab sweep` of the file trains all of it anew"
        )


@contextmanager
def translated(
    database: str,
    doing: Literal["opened", "used"] = "used",
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Raise what a database is to blame for as a `StudyError`; other errors pass through as they are.

    Args:
        database: its address, as the user may see it.
        doing: what cannot be done with it.
        also: further types of errors that mean the same in this block.

    Raises:
        MalformedError: an attribute is not JSON.
        DatabaseError: any other error of the database.
    """
    known: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *also)
    try:
        yield
    except json.JSONDecodeError as error:
        raise MalformedError(database, f"an attribute is not JSON ({error})") from error
    except known as error:
        raise DatabaseError(
            f"--storage {database} cannot be {doing}: {_said(error)}{_remedy(error)}"
        ) from error


class Retry:
    """Does things with a database, and does them again when a database that was unreachable is back.

    What is done must be safe to do twice: the connection may have broken after it was done, before that was heard.

    Args:
        database: its address, as the user may see it.
        should_stop: True ends the waiting.
    """

    def __init__(self, database: str, should_stop: Callable[[], bool]) -> None:
        self._database = database
        self._should_stop = should_stop
        self._within = threading.local()
        self._told = False  # that it is unreachable, since it was last reached
        self._given_up = False
        self._away: Stopwatch | None = None  # since it was last unreachable

    def __call__(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns. Inside another such call it is done once: the outer one does all of it again.

        Raises:
            StudyError: see `translated`; or the database is down for good, or a stop was asked for while it was down.
        """
        if self._is_within:
            return call()
        with translated(self._database):
            return self.until_reached(call)

    def until_reached(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns, and raise what it raises, unless that is worth waiting for.

        Raises:
            DatabaseError: the database is down for good, or a stop was asked for while it was down.
        """
        self._within.a_call = True
        try:
            return self._persist(call)
        finally:
            self._within.a_call = False

    def was_away(self, seconds: float) -> bool:
        """Return whether the database was unreachable at some moment of the last `seconds`."""
        return self._away is not None and self._away.seconds < seconds

    @property
    def _is_within(self) -> bool:
        return getattr(self._within, "a_call", False)

    def _persist(self, call: Callable[[], Result]) -> Result:
        end, pause = time.monotonic() + _LONGEST_SECONDS, _FIRST_PAUSE
        while True:
            try:
                result = call()
            except (sa.exc.DBAPIError, StorageInternalError) as error:
                if not _is_unreachable(error):
                    raise
                self._away = Stopwatch()
                said = _said(error).rstrip(".")
                if self._given_up or time.monotonic() >= end or self._should_stop():
                    self._given_up = True  # whatever else is tried must not wait as long once more
                    raise DatabaseError(
                        f"--storage {self._database} cannot be reached: {said}."
                        " Nothing that was trained is lost; start again when it is back"
                    ) from None
                self._tell(said)
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._told = self._given_up = False
                return result

    def _tell(self, said: str) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"--storage {self._database} cannot be reached: {said}. Waiting for it,"
                f" at most {_LONGEST_SECONDS / 60:.0f} minutes",
                LabWarning,
                stacklevel=2,
            )

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._should_stop() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        return _DRIVER
    return _CREDENTIALS if is_denied(error) else ""


def is_denied(error: BaseException) -> bool:
    """Return whether PostgreSQL rejected a connection's role or password, for which its drivers give no code."""
    return bool(_DENIED.search(str(error)))


def reason(error: BaseException) -> str:
    """Return the first line of why a study cannot be read or worked on, whatever kind of error that was."""
    if isinstance(error, MalformedError):
        return error.why
    first = next(iter(str(error).strip().splitlines()), "")
    return first if isinstance(error, StudyError) else f"{type(error).__name__}: {first}"


def _is_unreachable(error: BaseException) -> bool:
    """Whether the server could not be reached, or stopped in the middle; or a process sleeps on SQLite's lock."""
    cause = _cause(error)
    if not isinstance(cause, sa.exc.DBAPIError) or is_denied(cause):
        return False
    if str(cause.orig) == _LOCKED:
        return True
    # PostgreSQL's drivers give no code if there was no connection; 57P is a server that stops or starts
    code = getattr(cause.orig, "sqlstate", "") or ("08" if hasattr(cause.orig, "sqlstate") else "")
    return cause.connection_invalidated or (
        isinstance(cause, sa.exc.OperationalError) and code.startswith(("08", "57P"))
    )


def _said(error: BaseException) -> str:
    """Return the first line of what the database, or its driver, has said."""
    cause = _cause(error)
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """Return what Optuna has wrapped, if it has."""
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error
