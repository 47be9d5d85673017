"""Runs as rows of a table, the same from every tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lab.tracking.base import RunRecord, RunStatus

__all__ = ["run_frame"]

_COLUMNS = ("run_id", "name", "status", "start_time", "end_time")


def run_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return a row for each record, in their order, with the columns that `Tracker.runs` promises."""
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
        for name in sorted({name for values in dicts for name in values}):
            columns[f"{group}.{name}"] = [values.get(name, missing) for values in dicts]
    return pd.DataFrame(columns)


def _times(milliseconds: Sequence[int | None]) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(pd.Series(pd.array(milliseconds, dtype="Int64")), unit="ms", utc=True)
