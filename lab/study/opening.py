"""Opening a study database, made safe for several processes on one machine."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa

from lab.errors import StudyError
from lab.study.addresses import display_url, parse_address
from lab.study.copied import follow_copy
from lab.study.faults import Retry, translated
from lab.study.liveness import GRACE_SECONDS, HEARTBEAT_SECONDS
from lab.study.lock import locked
from lab.study.storage import READING, PatientStorage
from lab.tracking.schema import quickly_created

__all__ = ["open_storage"]

_BUSY_SECONDS = 60  # how long a writer of SQLite waits for another before it says so and waits on
_CONNECT_SECONDS = 10  # for a PostgreSQL server to answer
# A process that sleeps in a transaction keeps others from the rows it has locked: PostgreSQL breaks the transaction
# off, and the sleeper does it again. None of ours takes a second between two statements.
_IDLE = "SET idle_in_transaction_session_timeout = '30s'"
_OPENING_ERRORS = (sqlite3.Error, ImportError, RuntimeError, OSError)


def open_storage(
    url: str, *, wait: bool = False, should_stop: Callable[[], bool] = lambda: False
) -> PatientStorage:
    """Open the database at an SQLAlchemy `url` (`sqlite:///…`, `postgresql://…`), creating its tables.

    Several processes may do so at once, even with a fresh database. Once it is open, calls wait for a server that is
    unreachable.

    Args:
        url: of the database.
        wait: whether opening it waits for the server too, because the address is known to be right.
        should_stop: True ends the waiting.

    Raises:
        StudyError: the address is not a database address, or the database cannot be reached or is of another version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    parsed, database = parse_address(url), display_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StudyError("--storage: a database in memory is lost with its process; use sqlite:///studies.db")
    retry = Retry(database, should_stop)
    with translated(database, "opened", also=_OPENING_ERRORS):
        if wait:
            return retry.until_reached(lambda: _open(parsed, retry, database, should_stop))
        return _open(parsed, retry, database, should_stop)


def _open(url: sa.URL, retry: Retry, database: str, should_stop: Callable[[], bool]) -> PatientStorage:
    options, sqlite = _engine_options(url), url.get_backend_name() == "sqlite"
    file = Path(url.database) if sqlite and url.database else None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    setup = sa.create_engine(url, poolclass=sa.NullPool, connect_args=options["connect_args"])
    # creating the tables, and following a copy, race with other processes that do the same
    ready = url.get_backend_name() == "postgresql" and _has_tables(setup)
    lock = nullcontext() if ready else locked(setup, "tables", should_stop)
    with warnings.catch_warnings(), lock:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats, since Optuna 2.9
        if file is not None:
            _refuse_anothers(file)
        with nullcontext() if file is None else quickly_created(file, "optuna"):
            storage = PatientStorage(
                url.render_as_string(hide_password=False),
                retry,
                database,
                should_stop,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                skip_table_creation=ready,
            )
        if sqlite:
            _serialise_transactions(storage.engine)
            if file is not None:
                follow_copy(storage, file)
        elif url.get_backend_name() == "postgresql":
            _break_off_sleepers(storage.engine)
    return storage


def _engine_options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _BUSY_SECONDS}}
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}
    # one connection is kept: a trial and its heartbeats seldom need two at once, and a server has a hundred
    return {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 14, "connect_args": timeout}


def _has_tables(engine: sa.Engine) -> bool:
    """Whether a database has all of Optuna's tables, whose version is noted last.

    Workers that start at the same time would wait for each other: 300 of them took two minutes.
    """
    with engine.connect() as connection:
        noted = sa.inspect(connection).has_table("alembic_version")
        return noted and bool(connection.scalar(sa.text("SELECT COUNT(*) FROM alembic_version")))


def _refuse_anothers(file: Path) -> None:
    """Raise if an SQLite file has tables but none of Optuna's, which would be added to another application's."""
    if not file.is_file() or not file.stat().st_size:
        return
    with closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    ) as opened:
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "version_info" not in tables:
        raise RuntimeError("it is the database of another application")


def _serialise_transactions(engine: sa.Engine) -> None:
    """Make each transaction take SQLite's write lock when it begins.

    Python's driver begins a transaction only at the first write, so two processes could both read WAITING and then
    both write RUNNING: four processes made 208 claims of 200 trials without this, and exactly 200 with it.
    """

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # with WAL, safe if a process is killed

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = READING.items() <= connection.get_execution_options().items()
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    engine.dispose()  # not set in the connections made before


def _break_off_sleepers(engine: sa.Engine) -> None:
    """Make PostgreSQL end sessions that sleep in a transaction."""

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_IDLE)
        connection.commit()

    engine.dispose()  # not set in the connections made before
