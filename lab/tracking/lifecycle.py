"""Which runs no longer exist: deleted in the MLflow UI, deleted with their experiment, or purged since."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from lab.tracking.database import is_absent, rows_of
from lab.tracking.pending import pending_key

__all__ = ["known_ids", "missing_in_database"]

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
    if is_absent(uri):
        return set()
    return wanted - {row[0] for row in rows_of(uri, _ACTIVE, sorted(wanted), "Looking for deleted runs")}


def known_ids(run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that are the store's own, without pending ones."""
    return {run_id for run_id in run_ids if pending_key(run_id) is None}
