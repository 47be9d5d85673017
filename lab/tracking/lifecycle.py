"""Which runs no longer exist: deleted in the MLflow UI, deleted with their experiment, or purged since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from lab.tracking.database import is_absent, rows_of
from lab.tracking.pending import pending_id, pending_key
from lab.tracking.tags import Tag

__all__ = ["known_ids", "missing_in_database", "pending_ids"]

_ACTIVE = sa.text(
    "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN :ids"
).bindparams(sa.bindparam("ids", expanding=True))
# 'active' sorts before 'deleted', so the minimum is 'deleted' only if all of them are
_DELETED_KEYS = sa.text(
    "SELECT tags.value FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
    "WHERE tags.key = :tag AND tags.value IN :ids GROUP BY tags.value HAVING MIN(runs.lifecycle_stage) = 'deleted'"
).bindparams(sa.bindparam("ids", expanding=True))
_DOING = "Looking for deleted runs"


def missing_in_database(uri: str, run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that MLflow's database at `uri` no longer has: see `Tracker.missing_runs`.

    The database is queried directly, because importing MLflow takes longer than the answer.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: it is not MLflow's.
    """
    wanted = known_ids(run_ids)
    if is_absent(uri):
        return set()
    keys = sorted(filter(None, map(pending_key, run_ids)))
    deleted = {pending_id(row[0]) for row in rows_of(uri, _DELETED_KEYS, keys, _DOING, tag=Tag.JOURNAL)}
    active = {row[0] for row in rows_of(uri, _ACTIVE, sorted(wanted), _DOING)}
    return (wanted - active) | deleted


def known_ids(run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that are the store's own, without pending ones."""
    return {run_id for run_id in run_ids if pending_key(run_id) is None}


def pending_ids(runs: Iterable[Mapping[str, str]]) -> set[str]:
    """Return the pending ids that the runs with these tags had before the store knew them."""
    return {pending_id(tags[Tag.JOURNAL]) for tags in runs if Tag.JOURNAL in tags}
