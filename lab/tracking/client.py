"""Opens MLflow's client for an address, creating and checking a SQLite database first."""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import requests
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.store.db.db_types import DATABASE_ENGINES

from lab.places import has_mark, mark
from lab.tracking.database import connected
from lab.tracking.rebase import locked_database
from lab.tracking.schema import quickly_created

__all__ = ["open_client"]


def open_client(uri: str) -> MlflowClient:
    """Return a client of the store at `uri`; its database is there and of this MLflow's version.

    Raises whatever MLflow, the database or the network raises.
    """
    if uri.startswith("sqlite"):
        with _locked(_database_file(uri)):
            return _opened(uri)
    # one quick look: the client would retry for a long time if nothing answers at all
    if uri.startswith("http"):
        requests.head(uri, timeout=(5, 15), allow_redirects=False)
        return MlflowClient(uri)
    if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        with connected(uri, "Connecting"):
            pass
    return _opened(uri)


def _opened(uri: str) -> MlflowClient:
    """Return a client whose database has been created and checked."""
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _database_file(uri: str) -> Path | None:
    name = sa.engine.make_url(uri).database
    return Path(name) if name and name != ":memory:" else None


@contextmanager
def _locked(database: Path | None) -> Iterator[None]:
    """Let one process at a time create the SQLite `database`: several at once crash in its migrations."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        # MLflow would try for minutes to open what can be no database
        if stat.S_ISDIR(database.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder, not a database", str(database))
    with locked_database(database):
        with quickly_created(database, "mlflow"):
            yield
        _write_ahead(database)
        if not has_mark(database):
            mark(database)


def _write_ahead(database: Path) -> None:
    """Switch `database` to WAL, for good: readers no longer wait for writers."""
    # one that is in use just now stays as it is, until the next time
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(database, 1.0)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
