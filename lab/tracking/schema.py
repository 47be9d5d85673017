"""MLflow's and Optuna's tables in a new SQLite database, without the second or two that creating them takes.

The first new database of each version is created by the library itself; its tables are then remembered on this
machine. The library checks those of every database that it opens.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from lab.data.cache import recall, remember

__all__ = ["quickly_created"]

_KIND = "tables"
_OF_A_PLACE = 'INSERT INTO "experiments"'  # MLflow's default one, which it adds where there is none


@contextmanager
def quickly_created(database: Path, library: str) -> Iterator[None]:
    """Give `database` the remembered tables if it does not exist; or remember those that the block gives it.

    The caller keeps other processes from creating it.

    Args:
        database: a SQLite file.
        library: whose tables they are, by the name that its version is known under.
    """
    key = f"{library}-{version(library)}"
    if database.exists() or _created(database, recall(_KIND, key)):
        yield
        return
    yield
    with suppress(sqlite3.Error):
        remember(_KIND, key, _tables(database))


def _created(database: Path, tables: str | None) -> bool:
    """Create `database` by a script of SQL, as a whole or not at all; return whether that was possible."""
    if tables is None:
        return False
    scratch = database.with_name(f"{database.name}.{uuid.uuid4().hex}")
    try:
        with closing(sqlite3.connect(scratch)) as connection:
            connection.executescript(tables)
        database.hardlink_to(scratch)
    except (OSError, sqlite3.Error):  # the library creates it, or says why it cannot
        return False
    finally:
        with suppress(OSError):
            scratch.unlink()
    return True


def _tables(database: Path) -> str:
    """Return the script of SQL that creates the tables of `database` elsewhere."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return "\n".join(line for line in connection.iterdump() if not line.startswith(_OF_A_PLACE))
