"""Tables of runs that other programs export, as CSV or JSON: MLflow, lab itself, Weights & Biases, Neptune."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lab.errors import ConfigError, TrackingError
from lab.registry import suggest
from lab.tracking.foreign import ForeignRun, ForeignStudy, content_keys
from lab.wording import counted

__all__ = ["read_runs"]

# how columns say what they are; those of W&B do not
_METRIC: Final = re.compile(r"^(?:metrics|summary)[./]")
# W&B keeps texts and pictures among the numbers there
_MIXED: Final = re.compile(r"^summary[./]")
_PARAM: Final = re.compile(r"^(?:params|parameters|config)[./]")
_KEYS: Final = ("run_id", "Run ID", "Id", "ID", "id", "sys/id")
_NAMES: Final = ("name", "Name", "tags.mlflow.runName", "sys/name", "run_name")
_STATES: Final = ("outcome", "status", "Status", "state", "State", "sys/failed")
# bookkeeping of W&B among its settings and metrics
_HIDDEN: Final = re.compile(r"^(?:config|summary)[./]_")
# of the program's bookkeeping, not settings: of files with a prefix, of W&B, and of "Download CSV" in MLflow's UI;
# nothing at all names the index of a pandas table
_OTHERS: Final = re.compile(
    r"^(?:tags\.|sys/|monitoring/|_|start_time|end_time|artifact_uri|experiment_id|rank$|trial$|cell$|error$"
    r"|Notes$|User$|Tags$|Created$|Runtime$|Sweep$|Description$|Hostname$|Updated$|End Time$|GPU |Github$|Agent$"
    r"|Start Time$|Duration$|Source Type$|Source Name$|(?:Unnamed: \d+)?$)"
)
# before texts that a spreadsheet would compute, also numbers below zero, programs write an apostrophe
_GUARD: Final = re.compile(r"^'(?=[=+\-@\t\r\n])")
_OUTCOMES: Final = {
    "failed": "failed",
    "crashed": "failed",
    "true": "failed",
    "killed": "killed",
    "preempted": "killed",
    "pruned": "pruned",
    "diverged": "diverged",
}
_JSON: Final = frozenset({".json", ".jsonl", ".ndjson"})
# what programs write where a run has no value; `nan` is a number to Python
_ABSENT: Final = frozenset({"", "-", "na", "n/a", "#n/a", "<na>", "none", "null"})
_UNENDED: Final = frozenset({"running", "pending", "scheduled", "queued", "preempting"})


def read_runs(
    file: Path, metrics: Sequence[str] = (), monitor: str | None = None, *, maximize: bool = True
) -> ForeignStudy:
    """Return the runs of a CSV or JSON file, a row for each; those that have not ended are left out.

    Columns called `metrics.NAME`, `metrics/NAME` and `summary/NAME` are metrics; `params.NAME`, `parameters/NAME` and
    `config/NAME` are settings, as in exports of MLflow, lab and Neptune. Of other columns, as in those of Weights &
    Biases and of MLflow's UI, those named in `metrics` are metrics, and the rest are settings, except for bookkeeping.
    JSON is an object for each run, on a line each or in a list; `{"config": {"lr": 0.1}}` is a column `config/lr`, and
    if any column says that it is a setting, the others are none.

    A metric's values are numbers; nothing, NaN, None, null, NA, N/A and - stand for none, and so do infinities. Of a
    `summary`, what has no number at all is no metric, unless it is named: W&B keeps texts and pictures there too.

    Args:
        file: CSV with a header; JSON if its name ends in .json, .jsonl or .ndjson.
        metrics: columns that are metrics.
        monitor: the metric that compares the runs; may be left out if there is only one.
        maximize: whether higher values of it are better.

    Raises:
        ConfigError: it does not say which columns are metrics, or which of them compares the runs.
        TrackingError: the file cannot be read, or a metric has a value that is no number.
    """
    is_json = file.suffix.lower() in _JSON
    places, rows = _read_json(file) if is_json else _read(file)
    columns = [name for name in rows[0] if not _HIDDEN.match(name)]
    missing = [name for name in metrics if name not in columns]
    if missing:
        raise ConfigError(
            f"{file.name} has no column '{missing[0]}'.{suggest(missing[0], columns)} It has {', '.join(columns)}"
        )
    named = {*metrics, monitor}
    measured = {
        _METRIC.sub("", name): name
        for name in columns
        if name in metrics or (_METRIC.match(name) and _has_numbers(name, named, rows))
    }
    compared = _monitor(file, measured, monitor)
    marked = is_json and any(map(_PARAM.match, columns))
    settings = {
        _PARAM.sub("", name): name
        for name in columns
        if (_PARAM.match(name) if marked else _is_setting(name, measured.values()))
    }
    ended = [(place, row) for place, row in zip(places, rows, strict=True) if _state(row) not in _UNENDED]
    for place, row in ended:
        _check(file, place, row, measured.values())
    runs = [_run(row, number, measured, settings) for number, (_, row) in enumerate(ended, 1)]
    names = [_first(row, _NAMES) for _, row in ended]
    return ForeignStudy(file.name, _with_keys(runs, names), compared, maximize)


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the rows of a CSV file, after the place of each in words."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, restval="", strict=True)
            # the key is None where DictReader puts the values beyond the header
            placed: list[tuple[str, dict[Any, Any]]] = [(f"line {reader.line_num}", row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8
        raise TrackingError(
            f"{file} cannot be read as CSV: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not placed:
        raise TrackingError(f"{file} has no rows; a header and a row for each run are expected")
    for place, row in placed:
        if None in row:
            values = counted(len(row) - 1 + len(row[None]), "value")
            columns = counted(len(row) - 1, "column")
            raise TrackingError(
                f"{file} has a row with more values than its header has columns: {place} has {values}, the header "
                f"{columns}"
            )
    rows = [{name: _GUARD.sub("", value) for name, value in row.items()} for _, row in placed]
    return [place for place, _ in placed], rows


def _read_json(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the objects of a JSON file, after the place of each in words."""
    place = ""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            found = json.loads(text)
            places = [f"run {number}" for number in range(1, len(found) + 1)]
        else:
            found, places = [], []
            # not splitlines: texts in JSON may have other separators, such as U+2028, as they are
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    place = f"line {number}"
                    found.append(json.loads(line))
                    places.append(place)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not JSON
        raise TrackingError(
            f"{file} cannot be read as JSON, an object for each run, on a line each or in a list: "
            f"{_reason(error, place)}"
        ) from None
    if not found or not all(isinstance(run, dict) for run in found):
        what = "something else" if found else "nothing"
        raise TrackingError(f"{file} has {what} where an object for each run is expected")
    rows = [dict(_flat(run)) for run in found]
    columns = dict.fromkeys(name for row in rows for name in row)
    return places, [{name: row.get(name, "") for name in columns} for row in rows]


def _reason(error: OSError | ValueError, place: str) -> str:
    """Return what is wrong with a file, or with the line `place` of it."""
    if place and isinstance(error, json.JSONDecodeError):
        return f"{error.msg}: {place} column {error.colno}"
    return getattr(error, "strerror", None) or str(error)


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
    return not (
        name in measured or _METRIC.match(name) or name in (*_KEYS, *_NAMES, *_STATES) or _OTHERS.match(name)
    )


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


def _has_numbers(name: str, named: Collection[str | None], rows: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a column marked as a metric is one: not one of a summary that has texts only."""
    if not _MIXED.match(name) or name in named or _METRIC.sub("", name) in named:
        return True
    texts = [row[name] for row in rows if not _is_absent(row[name])]
    return not texts or any(map(_is_number, texts))


def _check(file: Path, place: str, row: Mapping[str, str], columns: Iterable[str]) -> None:
    for column in columns:
        if not (_is_absent(row[column]) or _is_number(row[column])):
            raise TrackingError(
                f"{file}, {place}, column '{column}': a metric is a number, or nothing where a run has none, but got "
                f"{row[column][:80]!r}"
            )


def _run(
    row: Mapping[str, str], number: int, measured: Mapping[str, str], settings: Mapping[str, str]
) -> ForeignRun:
    """Return the run of a row; without a key if the row has none."""
    params = {name: row[column] for name, column in settings.items() if row[column] != ""}
    values = {name: _number(row[column]) for name, column in measured.items()}
    return ForeignRun(
        key=_first(row, _KEYS),
        name=_first(row, _NAMES) or f"row {number}",
        params=params,
        metrics={name: value for name, value in values.items() if value is not None},
        outcome=_OUTCOMES.get(_state(row), "completed"),
    )


def _with_keys(runs: Sequence[ForeignRun], names: Iterable[str]) -> list[ForeignRun]:
    """Return the runs with a key for each that has none; `names` are those in the file, empty where it has none."""
    contents = [(name, {**run.params, **run.metrics}) for name, run in zip(names, runs, strict=True)]
    return [replace(run, key=run.key or key) for run, key in zip(runs, content_keys(contents), strict=True)]


def _state(row: Mapping[str, str]) -> str:
    return _first(row, _STATES).lower()


def _first(row: Mapping[str, str], columns: Iterable[str]) -> str:
    """Return the first value that a row has in any of `columns`; nothing if it has none."""
    return next((row[column] for column in columns if row.get(column)), "")


def _is_absent(text: str) -> bool:
    return text.strip().lower() in _ABSENT


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float | None:
    value = math.nan if _is_absent(text) else float(text)
    return value if math.isfinite(value) else None
