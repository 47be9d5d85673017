"""Runs and their curves as rows of a table, the same from every tracker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.tracking.base import RunRecord, RunStatus
from lab.tracking.database import LARGEST

__all__ = ["Point", "curve_frame", "run_frame"]

#: Run, metric, step and value; None is NaN.
Point = tuple[str, str, int, float | None]


_COLUMNS = ("run_id", "name", "status", "start_time", "end_time")


def run_frame(records: Sequence[RunRecord], metrics: Collection[str] | None = None) -> pd.DataFrame:
    """Return a row for each record, in their order, with the columns that `Reader.runs` promises."""
    groups: dict[str, Sequence[Mapping[str, Any]]] = {
        "params": [record.params for record in records],
        "metrics": [record.metrics for record in records],
        "tags": [record.tags for record in records],
    }
    columns: dict[str, Any] = {name: [getattr(record, name) for record in records] for name in _COLUMNS[:3]}
    columns["start_time"] = _times([record.start_time for record in records])
    columns["end_time"] = _times(
        [None if record.status is RunStatus.RUNNING else record.end_time for record in records]
    )
    for group, dicts in groups.items():
        missing = float("nan") if group == "metrics" else None
        for name in sorted(set[str]().union(*dicts)):
            if group == "metrics" and not _is_wanted(name, metrics):
                continue
            columns[f"{group}.{name}"] = [values.get(name, missing) for values in dicts]
    return pd.DataFrame(columns)


def curve_frame(points: Sequence[Point], run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row for each of `points`, with the columns and in the order that `Tracker.curves` promises.

    Of several values of one step the last one counts.
    """
    frame = pd.DataFrame.from_records(points, columns=["run_id", "metric", "step", "value"])
    frame = frame.drop_duplicates(["run_id", "metric", "step"], keep="last")
    frame = frame.astype({"run_id": "str", "metric": "str", "step": "int64", "value": "float64"})
    places = {
        "run_id": {name: place for place, name in enumerate(dict.fromkeys(run_ids))},
        "metric": {name: place for place, name in enumerate(dict.fromkeys(metrics))},
    }
    frame = frame.sort_values(
        ["run_id", "metric", "step"],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        ignore_index=True,
    )
    infinite = frame["value"].abs() >= LARGEST
    return frame.assign(value=frame["value"].mask(infinite, np.copysign(np.inf, frame["value"])))


def _is_wanted(name: str, metrics: Collection[str] | None) -> bool:
    """Return whether a metric is among those that `Reader.runs` is asked for."""
    if metrics is None or name in metrics:
        return True
    return any(one.endswith("*") and name.startswith(one[:-1]) for one in metrics)


def _times(milliseconds: Sequence[int | None]) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(pd.Series(pd.array(milliseconds, dtype="Int64")), unit="ms", utc=True)
