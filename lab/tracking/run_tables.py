"""Reads many runs from MLflow's tables in a few queries: its own search takes three milliseconds for each.

This relies on the tables experiments, runs, params, tags and latest_metrics as they are since MLflow 3.17 (the schema
versions in `_KNOWN`). Databases of another schema, or of another kind, are left to MLflow.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa

from lab.tracking.base import RunQuery, RunRecord, RunStatus
from lab.tracking.database import connected, engine_of, is_absent, true_value

__all__ = ["RunTables"]

_KNOWN: Final = frozenset({"dc11669786a5"})  # Alembic's revisions
# The function that makes one JSON object of many rows. One row for each run is read five times as fast as one for each
# of its params.
_OBJECT: Final = {"sqlite": "json_group_object", "postgresql": "json_object_agg"}
_RUN_NAME: Final = "mlflow.runName"  # what MLflow shows of a run without a name

_VERSIONS = sa.table("alembic_version", sa.column("version_num"))
_EXPERIMENTS = sa.table(
    "experiments",
    *map(sa.column, ("experiment_id", "name", "lifecycle_stage", "workspace")),
)
_RUNS = sa.table(
    "runs",
    *map(
        sa.column,
        (
            *("run_uuid", "name", "status", "start_time", "end_time"),
            *("experiment_id", "lifecycle_stage", "artifact_uri"),
        ),
    ),
)
_PARAMS, _TAGS = (
    sa.table(name, *map(sa.column, ("run_uuid", "key", "value"))) for name in ("params", "tags")
)
_METRICS = sa.table(
    "latest_metrics", *map(sa.column, ("run_uuid", "key", "value")), sa.column("is_nan", sa.Boolean)
)
_DOING = "Reading runs"


class RunTables:
    """The runs in MLflow's database at `uri`; every method reads anew.

    Raises:
        UnavailableError: from any method, the database cannot be reached.
        TrackingError: from any method, it is broken.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @classmethod
    def of(cls, uri: str) -> RunTables | None:
        """Return the tables at `uri`; None if there are none, or none that this version of lab knows."""
        if uri.split(":")[0].split("+")[0] not in _OBJECT or is_absent(uri):
            return None
        with connected(uri, _DOING) as connection:
            known = {"alembic_version", "experiments"} <= set(sa.inspect(connection).get_table_names())
            return cls(uri) if known and _is_known(connection) else None

    def experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`; None if there is none, or it is deleted."""
        query = sa.select(_EXPERIMENTS.c.experiment_id).where(
            _EXPERIMENTS.c.name == name, _EXPERIMENTS.c.lifecycle_stage == "active"
        )
        with connected(self._uri, _DOING) as connection:
            found = connection.execute(query).scalar()
        return None if found is None else str(found)

    def artifacts(self, run_id: str) -> str | None:
        """Return the address of a run's artifacts; None if there is no such run."""
        query = sa.select(_RUNS.c.artifact_uri).where(_RUNS.c.run_uuid == run_id)
        with connected(self._uri, _DOING) as connection:
            return connection.execute(query).scalar()

    def tags(self, run_id: str) -> dict[str, str] | None:
        """Return the tags of a run, deleted or not; None if it has none, or the database is on a server.

        For a journal, which looks who has opened the run before each of its last writes: a connection is kept.
        """
        if not self._uri.startswith("sqlite"):  # a connection that is kept would not survive an outage
            return None
        query = sa.select(_TAGS.c.key, _TAGS.c.value).where(_TAGS.c.run_uuid == run_id)
        with connected(self._uri, _DOING, self._engine) as connection:
            return dict(connection.execute(query).tuples().all()) or None

    @cached_property
    def _engine(self) -> sa.Engine:
        return engine_of(self._uri)

    def records(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are wanted."""
        every = _runs_of(query.experiment, query.deleted)
        wanted = _ordered(_having(every, query.tags), query.order_by, query.descending).limit(query.limit)
        # without a limit, reading some runs too many is quicker than looking for the tags again
        ids = sa.select((every if query.limit is None else wanted).subquery().c.run_uuid)
        with connected(self._uri, _DOING) as connection:
            rows = connection.execute(wanted).all()
            params, noted = (_texts(connection, table, ids) for table in (_PARAMS, _TAGS))
            numbers = _numbers(connection, ids, query.metrics)
        return [
            RunRecord(
                run_id,
                name or noted.get(run_id, {}).get(_RUN_NAME, ""),
                RunStatus(status),
                started,
                ended,
                params.get(run_id, {}),
                numbers.get(run_id, {}),
                noted.get(run_id, {}),
            )
            for run_id, name, status, started, ended in rows
        ]


def _is_known(connection: sa.Connection) -> bool:
    """Return whether the schema is known, and no experiment belongs to a workspace, of which MLflow shows one."""
    versions = set(connection.execute(sa.select(_VERSIONS.c.version_num)).scalars())
    if not versions <= _KNOWN:
        return False
    others = sa.select(sa.exists().where(_EXPERIMENTS.c.workspace != "default"))
    return not connection.execute(others).scalar()


def _runs_of(experiment: str | None, deleted: bool) -> sa.Select[Any]:
    columns = (_RUNS.c[name] for name in ("run_uuid", "name", "status", "start_time", "end_time"))
    query = sa.select(*columns).where(_RUNS.c.lifecycle_stage == ("deleted" if deleted else "active"))
    if experiment is not None:
        query = query.where(_RUNS.c.experiment_id == int(experiment))
    elif not deleted:
        active = sa.select(_EXPERIMENTS.c.experiment_id).where(_EXPERIMENTS.c.lifecycle_stage == "active")
        query = query.where(_RUNS.c.experiment_id.in_(active))
    return query


def _having(query: sa.Select[Any], tags: Mapping[str, str]) -> sa.Select[Any]:
    for key, value in tags.items():
        having = sa.select(_TAGS.c.run_uuid).where(_TAGS.c.key == key, _TAGS.c.value == value)
        query = query.where(_RUNS.c.run_uuid.in_(having))
    return query


def _ordered(query: sa.Select[Any], order_by: str | None, descending: bool) -> sa.Select[Any]:
    """Return `query` in the order of MLflow's search."""
    if order_by is not None:
        on = sa.and_(_METRICS.c.run_uuid == _RUNS.c.run_uuid, _METRICS.c.key == order_by)
        value = _METRICS.c.value
        missing = sa.case((_METRICS.c.is_nan, 1), (value.is_(None), 2), else_=0)
        query = query.outerjoin(_METRICS, on).order_by(missing, value.desc() if descending else value)
    return query.order_by(_RUNS.c.start_time.desc(), _RUNS.c.run_uuid)


def _texts(
    connection: sa.Connection, table: sa.TableClause, ids: sa.Select[Any]
) -> dict[str, dict[str, str]]:
    """Return the params or the tags of the runs with `ids`, by run and name."""
    join = getattr(sa.func, _OBJECT[connection.dialect.name])
    pairs = sa.cast(join(table.c.key, table.c.value), sa.Text)
    query = sa.select(table.c.run_uuid, pairs).where(table.c.run_uuid.in_(ids)).group_by(table.c.run_uuid)
    return {run_id: json.loads(text) for run_id, text in connection.execute(query)}


def _numbers(
    connection: sa.Connection, ids: sa.Select[Any], metrics: Collection[str] | None
) -> dict[str, dict[str, float]]:
    """Return the last value of each metric of the runs with `ids`, by run and name."""
    value = sa.case((_METRICS.c.is_nan, None), else_=_METRICS.c.value)
    query = sa.select(_METRICS.c.run_uuid, _METRICS.c.key, value).where(_METRICS.c.run_uuid.in_(ids))
    if metrics is not None:
        begun = (
            _METRICS.c.key.startswith(name[:-1], autoescape=True) for name in metrics if name[-1:] == "*"
        )
        query = query.where(sa.or_(_METRICS.c.key.in_(metrics), *begun))
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for run_id, name, number in connection.execute(query):
        found[run_id][name] = math.nan if number is None else true_value(number)
    return found
