"""Tables of runs that other programs export, as CSV or JSON: MLflow, lab itself, Weights & Biases, Neptune."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.errors import ConfigError, TrackingError
from lab.registry import suggest
from lab.tracking.foreign import ForeignRun, ForeignStudy

__all__ = ["read_runs"]

# how columns say what they are; those of W&B do not
_METRIC: Final = re.compile(r"^(?:metrics|summary)[./]")
_PARAM: Final = re.compile(r"^(?:params|parameters|config)[./]")
_KEYS: Final = ("run_id", "Run ID", "Id", "ID", "id", "sys/id")
_NAMES: Final = ("name", "Name", "tags.mlflow.runName", "sys/name", "run_name")
_STATES: Final = ("outcome", "status", "state", "State", "sys/failed")
# bookkeeping of W&B among its settings and metrics
_HIDDEN: Final = re.compile(r"^(?:config|summary)[./]_")
# of the program's bookkeeping, not settings
_OTHERS: Final = re.compile(
    r"^(?:tags\.|sys/|monitoring/|_|start_time|end_time|artifact_uri|experiment_id|rank$|trial$|cell$|error$"
    r"|Notes$|User$|Tags$|Created$|Runtime$|Sweep$|Description$|Hostname$|Updated$|End Time$|GPU |Github$|Agent$)"
)
_OUTCOMES: Final = {
    "failed": "failed",
    "crashed": "failed",
    "true": "failed",
    "killed": "killed",
    "pruned": "pruned",
    "diverged": "diverged",
}
_JSON: Final = frozenset({".json", ".jsonl", ".ndjson"})
_UNENDED: Final = frozenset({"running", "pending", "scheduled", "queued"})


def read_runs(
    file: Path, metrics: Sequence[str] = (), monitor: str | None = None, *, maximize: bool = True
) -> ForeignStudy:
    """Return the runs of a CSV or JSON file, a row for each; those that have not ended are left out.

    Columns called `metrics.NAME`, `metrics/NAME` and `summary/NAME` are metrics; `params.NAME`, `parameters/NAME` and
    `config/NAME` are settings, as in exports of MLflow, lab and Neptune. Of other columns, as in those of Weights &
    Biases, those named in `metrics` are metrics, and the rest are settings, except for bookkeeping. JSON is an object
    for each run, on a line each or in a list; `{"config": {"lr": 0.1}}` is a column `config/lr`, and if any column says
    that it is a setting, the others are none.

    Args:
        file: CSV with a header; JSON if its name ends in .json, .jsonl or .ndjson.
        metrics: columns that are metrics.
        monitor: the metric that compares the runs; may be left out if there is only one.
        maximize: whether higher values of it are better.

    Raises:
        ConfigError: it does not say which columns are metrics, or which of them compares the runs.
        TrackingError: the file cannot be read.
    """
    is_json = file.suffix.lower() in _JSON
    rows = _read_json(file) if is_json else _read(file)
    columns = [name for name in rows[0] if not _HIDDEN.match(name)]
    missing = [name for name in metrics if name not in columns]
    if missing:
        raise ConfigError(
            f"{file.name} has no column '{missing[0]}'.{suggest(missing[0], columns)} It has {', '.join(columns)}"
        )
    measured = {_METRIC.sub("", name): name for name in columns if _METRIC.match(name) or name in metrics}
    compared = _monitor(file, measured, monitor)
    marked = is_json and any(map(_PARAM.match, columns))
    settings = {
        _PARAM.sub("", name): name
        for name in columns
        if (_PARAM.match(name) if marked else _is_setting(name, measured.values()))
    }
    ended = [row for row in rows if _state(row) not in _UNENDED]
    runs = [_run(row, place, measured, settings) for place, row in enumerate(ended)]
    return ForeignStudy(file.name, runs, compared, maximize)


def _read(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened, restval="", strict=True))
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8
        raise TrackingError(
            f"{file} cannot be read as CSV: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not rows:
        raise TrackingError(f"{file} has no rows; a header and a row for each run are expected")
    if None in rows[0]:
        raise TrackingError(f"{file} has a row with more values than its header has columns")
    return rows


def _read_json(file: Path) -> list[dict[str, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        is_list = text.lstrip().startswith("[")
        found = (
            json.loads(text) if is_list else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not JSON
        raise TrackingError(
            f"{file} cannot be read as JSON, an object for each run, on a line each or in a list: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from None
    if not found or not all(isinstance(run, dict) for run in found):
        what = "something else" if found else "nothing"
        raise TrackingError(f"{file} has {what} where an object for each run is expected")
    rows = [dict(_flat(run)) for run in found]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested objects as texts, under names such as `config/lr`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}/")
        elif isinstance(value, list):
            yield above + name, json.dumps(value)
        else:
            yield above + name, "" if value is None else str(value)


def _is_setting(name: str, measured: Collection[str]) -> bool:
    if _PARAM.match(name):
        return True
    return not (name in measured or name in (*_KEYS, *_NAMES, *_STATES) or _OTHERS.match(name))


def _monitor(file: Path, measured: Mapping[str, str], monitor: str | None) -> str:
    if not measured:
        raise ConfigError(f"Which columns of {file.name} are metrics? Name each with --metric")
    if monitor is None and len(measured) == 1:
        return next(iter(measured))
    if monitor is None:
        preferred = "best_value" if "best_value" in measured else None
        if preferred is None:
            raise ConfigError(f"Which metric compares the runs? Choose with --monitor: {', '.join(measured)}")
        return preferred
    name = _METRIC.sub("", monitor)
    if name not in measured:
        raise ConfigError(f"{file.name} has no metric '{monitor}'.{suggest(name, list(measured))}")
    return name


def _run(
    row: Mapping[str, str], place: int, measured: Mapping[str, str], settings: Mapping[str, str]
) -> ForeignRun:
    params = {name: row[column] for name, column in settings.items() if row[column] != ""}
    values = {name: _number(row[column]) for name, column in measured.items()}
    name = next((row[column] for column in _NAMES if row.get(column)), "")
    return ForeignRun(
        key=next((row[column] for column in _KEYS if row.get(column)), name or str(place)),
        name=name or f"row {place + 1}",
        params=params,
        metrics={name: value for name, value in values.items() if value is not None},
        outcome=_OUTCOMES.get(_state(row), "completed"),
    )


def _state(row: Mapping[str, str]) -> str:
    return next((row[column].lower() for column in _STATES if row.get(column)), "")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value
