"""Opening the database that holds studies, made safe for several processes on one machine."""

from __future__ import annotations

import json
import logging
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import wraps
from inspect import isfunction
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.study.faults import Patience, is_denied
from lab.study.liveness import GRACE_SECONDS, HEARTBEAT_SECONDS
from lab.study.lock import alone
from lab.study.record import TrialRecord

__all__ = [
    "READING",
    "PatientStorage",
    "database_exists",
    "display_url",
    "explained",
    "open_storage",
    "with_driver",
]

_CREDENTIALS = (
    ". Name role and password in the address, or the password in PGPASSWORD or a file that PGPASSFILE names"
)
READING = {"reading": True}  # options of a connection that only reads, and waits for no writer
_BUSY_SECONDS = 60  # how long a writer of SQLite waits for another, before it says so and waits on
_CONNECT_SECONDS = 10  # for a PostgreSQL server to answer
# A process that sleeps in a transaction keeps others from the rows it has locked: PostgreSQL breaks it off, and the
# sleeper does it again. None of ours takes a second between two statements.
_IDLE = "SET idle_in_transaction_session_timeout = '30s'"


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait for a server that is away (see `Patience`).

    `patiently` does the same for anything else that is done with its database, and for a few calls that belong
    together.
    """

    def __init__(self, url: str, patiently: Patience, **options: Any) -> None:
        self.patiently = patiently
        super().__init__(url, **options)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set a trial's state: see Optuna's.

        One that was done before its connection broke is done all the same. A claim is not: whose it was cannot
        be told, so nobody has the trial, until it is thought dead and queued again.
        """
        tries = 0

        def set_state() -> bool:
            nonlocal tries
            tries += 1
            if tries > 1 and state is TrialState.WAITING and self._is_claimed(trial_id):
                return True  # it was put back, and somebody has claimed it since
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries > 1 and self.get_trial(trial_id).state is state:
                    return True
                raise

        return self.patiently(set_state)

    def _is_claimed(self, trial_id: int) -> bool:
        return TrialRecord(self.get_trial(trial_id)).has_worker


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: PatientStorage, *args: Any, **options: Any) -> Any:
        return self.patiently(lambda: method(self, *args, **options))

    return call


# what Optuna asks of a storage, and what its cache and its heartbeat ask of this one
_CALLS = {name for name in vars(RDBStorage) if not name.startswith("_")} | {
    "_get_trials",
    "_get_stale_trial_ids",
}
for _name in _CALLS - vars(PatientStorage).keys():
    if isfunction(getattr(RDBStorage, _name)):
        setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


def open_storage(
    url: str, *, wait: bool = False, should_stop: Callable[[], bool] = lambda: False
) -> PatientStorage:
    """Open the database at an SQLAlchemy `url` (`sqlite:///…`, `postgresql://…`), creating its tables.

    Several processes may do so at once, on a fresh database too. Once it is open, calls wait for a server that is
    away.

    Args:
        url: of the database.
        wait: whether opening it waits for the server too: the address is known to be right.
        should_stop: True ends the waiting.

    Raises:
        StudyError: the address is no database's, the database cannot be reached, or it is of another version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        parsed = with_driver(sa.make_url(url))
    except sa.exc.ArgumentError:
        raise StudyError(
            f"--storage: '{url}' is not a database address; use e.g. sqlite:///studies.db "
            "or postgresql://user@host/database"
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StudyError("--storage: a database in memory is lost with its process; use sqlite:///studies.db")
    try:
        patiently = Patience(display_url(url), should_stop)
        return patiently(lambda: _open(parsed, patiently)) if wait else _open(parsed, patiently)
    except (sa.exc.SQLAlchemyError, sqlite3.Error, ImportError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        remedy = _CREDENTIALS if is_denied(reason) else ""
        raise StudyError(f"--storage {display_url(url)} cannot be opened: {reason}{remedy}") from None


def database_exists(url: str) -> bool:
    """Return whether there is anything to open at `url`: looking must not create an SQLite file."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return True  # opening it says what is wrong
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return True
    file = Path(parsed.database)
    return file.exists() or file.is_symlink()  # a broken link is no fresh start; opening it says so


def explained(error: Exception, url: str) -> StudyError | None:
    """Return what a database of studies is to blame for as a `StudyError`, None if it is not.

    Args:
        error: raised while the studies at `url` were read or written.
        url: of their database.
    """
    if isinstance(error, json.JSONDecodeError):
        reason = f"an attribute is not JSON ({error})"
    elif isinstance(error, sa.exc.SQLAlchemyError | optuna.exceptions.OptunaError):
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    else:
        return None
    return StudyError(f"--storage {display_url(url)} cannot be used: {reason}")


def display_url(url: str) -> str:
    """Return `url` without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:  # `memory`, or a mistake that opening it tells
        return url


def with_driver(url: sa.URL) -> sa.URL:
    """Return `url` with the PostgreSQL driver that lab brings, where it names none."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


def _open(url: sa.URL, patiently: Patience) -> PatientStorage:
    from lab.study.copied import follow_copy  # which opens studies in what is made here

    engine_kwargs: dict[str, Any] = {"pool_pre_ping": True}
    sqlite = url.get_backend_name() == "sqlite"
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        engine_kwargs["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    if sqlite:
        engine_kwargs = {"connect_args": {"timeout": _BUSY_SECONDS}}
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # creating the tables races with another process that does the same
    with warnings.catch_warnings(), alone(sa.create_engine(url, poolclass=sa.NullPool), "tables"):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats, since Optuna 2.9
        if sqlite and url.database:
            _refuse_anothers(Path(url.database))
        storage = PatientStorage(
            url.render_as_string(hide_password=False),
            patiently,
            engine_kwargs=engine_kwargs,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    if sqlite:
        _serialise_transactions(storage.engine)
        if url.database:
            follow_copy(storage, Path(url.database))
    elif url.get_backend_name() == "postgresql":
        _break_off_sleepers(storage.engine)
    return storage


def _refuse_anothers(file: Path) -> None:
    """Raise where an SQLite file holds tables and none of Optuna's: it would add its own to another's."""
    if not file.is_file() or not file.stat().st_size:
        return
    with closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    ) as opened:
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "version_info" not in tables:
        raise RuntimeError("it is the database of another application")


def _serialise_transactions(engine: sa.Engine) -> None:
    """Let each transaction take SQLite's write lock when it begins.

    Python's driver begins one only at the first write, so two processes could both read WAITING and then both
    write RUNNING: 208 claims of 200 trials were seen with four processes, and exactly 200 with this.
    """

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # safe with WAL against a killed process

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = READING.items() <= connection.get_execution_options().items()
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    engine.dispose()  # connections made before know nothing of this


def _break_off_sleepers(engine: sa.Engine) -> None:
    """Let PostgreSQL end the sessions that do nothing in a transaction."""

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_IDLE)
        connection.commit()

    engine.dispose()  # connections made before know nothing of this
