"""A lock across processes and machines that ends with its holder."""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from filelock import lock_descriptor

from lab.errors import LabWarning, StudyError

__all__ = ["locked"]


_TAKE = sa.text("SELECT pg_try_advisory_lock(:key)")
_TICK = 0.02
_TELL_SECONDS = 10.0  # of waiting, before a warning says so
_STOP_SECONDS = 3.0  # between looks at `should_stop`; most locks that are not slept in end sooner
_MOST_SECONDS = 600.0  # planning thousands of cells takes a minute


@contextmanager
def locked(engine: sa.Engine, what: str, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Keep others that ask for the same `what` of this database waiting until the end of the block.

    SQLite is used from one machine, where a lock on a file next to the database serves; PostgreSQL has advisory locks.
    Both end with their process. A block must not ask for the same again: it would wait for itself.

    A process that sleeps in a block (stopped, or on a closed laptop) keeps the others waiting; they say so.

    Args:
        engine: of the database.
        what: is locked, in words.
        should_stop: True ends the waiting, after a moment in which one that is awake lets go.

    Raises:
        StudyError: the database is neither of the two, the lock cannot be created, or another process has had it for
            ten minutes or until a stop was asked for.
    """
    backend = engine.url.get_backend_name()
    if backend == "sqlite":
        with _file_locked(Path(f"{engine.url.database}.locks") / quote(what, safe=""), what, should_stop):
            yield
    elif backend == "postgresql":
        with _advisory_locked(engine, what, should_stop):
            yield
    else:
        raise StudyError(f"--storage: studies are kept in SQLite or PostgreSQL, not in {backend}")


@contextmanager
def _file_locked(file: Path, what: str, should_stop: Callable[[], bool]) -> Iterator[None]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("w")
    except OSError as error:
        raise StudyError(
            f"--storage: the lock {file} cannot be acquired: {error.strerror or error}"
        ) from None
    with lock:
        _await(lambda: lock_descriptor(lock.fileno(), blocking=False), what, should_stop)
        yield


def _await(take: Callable[[], bool], what: str, should_stop: Callable[[], bool]) -> None:
    """Try to take a lock until that succeeds."""
    began, asked, told = time.monotonic(), 0.0, False
    while not take():
        waited = time.monotonic() - began
        if waited > _TELL_SECONDS and not told:
            told = True
            warnings.warn(f"Waiting for another process that holds {what}", LabWarning, stacklevel=2)
        if waited > _MOST_SECONDS:
            raise StudyError(
                f"--storage: Another process has held {what} for {waited / 60:.0f} minutes: it may have been"
                " stopped or be asleep. Continue it or end it, then start again; nothing is lost"
            )
        if waited - asked > _STOP_SECONDS:
            asked = waited
            if should_stop():
                raise StudyError(
                    f"--storage: Another process holds {what}, and this one was told to stop while it waited."
                    " Nothing is lost; start again when the other has ended"
                )
        time.sleep(_TICK)


@contextmanager
def _advisory_locked(engine: sa.Engine, what: str, should_stop: Callable[[], bool]) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(f"lab:{what}".encode()).digest()[:8], signed=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _await(lambda: bool(connection.scalar(_TAKE, {"key": key})), what, should_stop)
        try:
            with _no_other_session(engine, connection):
                yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})


@contextmanager
def _no_other_session(engine: sa.Engine, holder: sa.Connection) -> Iterator[None]:
    """Refuse this thread new connections once the lock's own is dead.

    A restarted server has forgotten the lock: work that continued on a new connection would not be alone.
    """
    mine = threading.get_ident()
    driver: Any = holder.connection.driver_connection

    def confirm(*_: object) -> None:
        if threading.get_ident() == mine:
            driver.cursor().execute("SELECT 1")

    sa.event.listen(engine, "do_connect", confirm)
    try:
        yield
    finally:
        sa.event.remove(engine, "do_connect", confirm)
