"""The curves of many runs at once: a request for each run and metric would take minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from lab.tracking.database import in_parts, rows_of

if TYPE_CHECKING:
    import requests
    from mlflow import MlflowClient

    from lab.tracking.frames import Point

__all__ = ["points_in_database", "points_on_server"]

_POINTS = sa.text(
    "SELECT run_uuid, key, step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics"
    " WHERE run_uuid IN :ids AND key IN :metrics ORDER BY timestamp"
).bindparams(sa.bindparam("ids", expanding=True), sa.bindparam("metrics", expanding=True))
# What the UI draws its charts with. Its newer variant thins curves out.
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_MOST_RUNS = 100  # in one request
_MOST_POINTS = 25_000  # in one answer, which does not say whether it was cut off


def points_in_database(uri: str, run_ids: Sequence[str], metrics: Sequence[str]) -> Sequence[Point]:
    """Return the values of `metrics` that the database at `uri` has of the runs, in order of time."""
    rows = rows_of(uri, _POINTS, run_ids, "Reading curves", metrics=list(metrics))
    return [(run_id, metric, step, value) for run_id, metric, step, value in rows]


def points_on_server(
    uri: str, client: MlflowClient, run_ids: Sequence[str], metrics: Sequence[str]
) -> Sequence[Point]:
    """Return the values of `metrics` that the server at `uri` has of the runs, of each run in order of time."""
    return [
        point
        for metric in metrics
        for part in in_parts(run_ids, _MOST_RUNS)
        for point in _of_one_metric(uri, client, part, metric)
    ]


def _of_one_metric(uri: str, client: MlflowClient, run_ids: Sequence[str], metric: str) -> Iterator[Point]:
    points = _asked(uri, run_ids, metric)
    if len(points) < _MOST_POINTS:
        yield from ((point["run_id"], metric, int(point["step"]), float(point["value"])) for point in points)
    elif len(run_ids) > 1:
        for half in in_parts(run_ids, (len(run_ids) + 1) // 2):
            yield from _of_one_metric(uri, client, half, metric)
    else:
        for each in client.get_metric_history(run_ids[0], metric):  # page by page
            yield run_ids[0], metric, each.step, each.value


def _asked(uri: str, run_ids: Sequence[str], metric: str) -> list[dict[str, Any]]:
    request: Any = http_request  # none of them is typed
    credentials: Any = get_default_host_creds
    checked: Any = verify_rest_response
    asked = {"run_id": list(run_ids), "metric_key": metric}
    answer: requests.Response = checked(request(credentials(uri), _BULK, "GET", params=asked), _BULK)
    found: list[dict[str, Any]] = answer.json()["metrics"]
    return found
