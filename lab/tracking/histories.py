"""The curves of many runs, read from an MLflow store in few requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow.entities
from mlflow import MlflowClient

from lab.tracking.lifecycle import in_parts
from lab.tracking.mlflow_run import true_value

__all__ = ["by_step", "histories"]

_AT_ONCE = 8  # requests to a server
_MOST_POINTS = 1_000_000  # of one metric in one query


def histories(client: MlflowClient, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
    """Return the values of `metric` of each run by step.

    A database is asked once for hundreds of runs. A server has no public request for more than one run, so it gets
    several of these at a time.
    """
    store: Any = client._tracking_client.store
    if not hasattr(store, "get_metric_history_bulk"):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda run_id: by_step(client.get_metric_history(run_id, metric)), run_ids)
            return dict(zip(run_ids, found, strict=True))
    points: dict[str, list[mlflow.entities.Metric]] = {}
    for part in in_parts(run_ids):
        for point in store.get_metric_history_bulk(part, metric, _MOST_POINTS):
            points.setdefault(point.run_id, []).append(point)
    return {run_id: by_step(each) for run_id, each in points.items()}


def by_step(points: Iterable[mlflow.entities.Metric]) -> dict[int, float]:
    """Return the values of points by step, in order of the steps; of several at one step the newest."""
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
    return {point.step: true_value(point.value) for point in ordered}
