"""Which runs no longer exist: deleted in the MLflow UI, deleted with their experiment, or purged since."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from lab.errors import TrackingError
from lab.tracking.base import UnavailableError, public_uri
from lab.tracking.pending import pending_key

__all__ = ["in_parts", "known_ids", "missing_in_database"]

_PART = 500  # ids in one query: databases limit the number of values
_PATIENCE = 8  # seconds for a connection
_ACTIVE = sa.text(
    "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN :ids"
).bindparams(sa.bindparam("ids", expanding=True))


def missing_in_database(uri: str, run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that MLflow's database at `uri` no longer has.

    The database is queried directly, because importing MLflow takes longer than the answer.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: it is not MLflow's.
    """
    wanted = known_ids(run_ids)
    url = sa.make_url(uri)
    sqlite = url.get_backend_name() == "sqlite"
    if not wanted or (sqlite and url.database and not Path(url.database).exists()):
        return set()  # do not create a database
    option = "timeout" if sqlite else "connect_timeout"
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={option: _PATIENCE})
        with closing(engine.connect()) as connection:
            return wanted - {
                row[0]
                for part in in_parts(sorted(wanted))
                for row in connection.execute(_ACTIVE, {"ids": part})
            }
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        kind = UnavailableError if isinstance(error, sa.exc.OperationalError) else TrackingError
        raise kind(f"Looking for deleted runs failed at {public_uri(uri)}: {said}.") from None


def known_ids(run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that are the store's own, without pending ones."""
    return {run_id for run_id in run_ids if pending_key(run_id) is None}


def in_parts(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield `run_ids` in parts that fit into one query."""
    for start in range(0, len(run_ids), _PART):
        yield run_ids[start : start + _PART]
