"""Reads tables of MLflow's database directly, where its client would take too long."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from lab.errors import TrackingError
from lab.tracking.base import UnavailableError, public_uri

__all__ = ["LARGEST", "connected", "engine_of", "in_parts", "is_absent", "rows_of", "true_value"]

LARGEST: Final = 1.7976931348623157e308  # what MLflow's databases keep of an infinity

_PART = 500  # ids in one query: databases limit the number of values
_PATIENCE = 8  # seconds for a connection


def rows_of(uri: str, query: sa.TextClause, run_ids: Sequence[str], doing: str, **values: Any) -> list[Any]:
    """Return the rows of `query` for many runs; no row if the database does not exist, which is not created.

    Args:
        uri: of the database.
        query: with the expanding parameter `ids`, filled in part by part.
        run_ids: of the runs.
        doing: what fails if this does: "Looking for deleted runs".
        values: of the query's other parameters.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: it is not MLflow's.
    """
    if not run_ids or is_absent(uri):
        return []
    with connected(uri, doing) as connection:
        return [
            row
            for part in in_parts(run_ids)
            for row in connection.execute(query, {"ids": list(part), **values})
        ]


@contextmanager
def connected(uri: str, doing: str, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
    """Connect to the database at `uri`, which exists; by an `engine` that keeps its connections, if there is one.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: a query failed in this block, such as one of a database that is not MLflow's.
    """
    try:
        with closing((engine or engine_of(uri, poolclass=sa.NullPool)).connect()) as connection:
            yield connection
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        kind = UnavailableError if isinstance(error, sa.exc.OperationalError) else TrackingError
        raise kind(f"{doing} failed at {public_uri(uri)}: {said}.") from None


def engine_of(uri: str, **options: Any) -> sa.Engine:
    """Return an engine for the database at `uri` that is not patient for longer than some seconds."""
    url = sa.make_url(uri)
    patience = "timeout" if url.get_backend_name() == "sqlite" else "connect_timeout"
    return sa.create_engine(url, connect_args={patience: _PATIENCE}, **options)


def true_value(value: float) -> float:
    """Return the value that a store's answer stands for: MLflow's databases keep an infinity as a large number."""
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value


def is_absent(uri: str) -> bool:
    """Whether `uri` is of a SQLite database that does not exist, which opening it would create."""
    url = sa.make_url(uri)
    return url.get_backend_name() == "sqlite" and bool(url.database) and not Path(str(url.database)).exists()


def in_parts(run_ids: Sequence[str], size: int = _PART) -> Iterator[Sequence[str]]:
    """Yield `run_ids` in parts that fit into one query."""
    for start in range(0, len(run_ids), size):
        yield run_ids[start : start + size]
