"""The leaderboard with everything that a reader sorts and filters by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.render import formatted, spread
from lab.report.sections.source import Source, value_order
from lab.report.statistics import SPREAD

__all__ = ["Board", "BoardColumn", "BoardRow", "Choice", "Entry", "board", "entry", "spread_columns"]

_MOST_CHOICES = 12  # values of a dimension that a reader can choose among


@dataclass(frozen=True)
class BoardColumn:
    """A column: its name, its heading, whether it has numbers, and whether higher ones are better (None: neither)."""

    name: str
    heading: str
    numeric: bool = True
    rises: bool | None = None


@dataclass(frozen=True)
class Entry:
    """One entry: its text, and what it is sorted by (None comes last)."""

    text: str
    value: float | str | None


@dataclass(frozen=True)
class BoardRow:
    """One cell of the study: its rank, name and the run of its best repeat; `values` by dimension."""

    rank: int
    name: str
    run_id: str
    entries: tuple[Entry, ...]
    values: dict[str, str]


@dataclass(frozen=True)
class Choice:
    """The values of a dimension, to choose rows by."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """A leaderboard: the best row first."""

    columns: tuple[BoardColumn, ...]
    rows: tuple[BoardRow, ...]
    choices: tuple[Choice, ...]


def board(source: Source) -> Board:
    """Return the leaderboard of the study's cells."""
    frame = source.cells.assign(mult_adds=source.cell_metric("mult_adds").round().astype("Int64"))
    columns = tuple(_columns(source, frame))
    rows = tuple(_row(source, columns, row) for row in frame.to_dict("records"))
    return Board(columns, rows, tuple(_choices(source)))


def _columns(source: Source, frame: pd.DataFrame) -> Iterator[BoardColumn]:
    yield BoardColumn("rank", "Rank")
    dimensions = source.dimensions
    if not dimensions:
        yield BoardColumn("name", "Name", numeric=False)
    for name in dimensions:
        yield BoardColumn(name, name, numeric=_is_numeric(frame[name]))
    yield BoardColumn("best_value", source.metric, rises=source.descending)
    yield from spread_columns(frame)
    yield from _measured(source, frame)
    yield BoardColumn("outcome", "Outcome", numeric=False)


def spread_columns(frame: pd.DataFrame) -> Iterator[BoardColumn]:
    """Yield the columns of the interval, and of the number of repeats if it is not the same for all rows."""
    if "n" not in frame:
        return
    counts = frame["n"].dropna().unique()
    if len(counts) == 1:
        yield BoardColumn("spread", "n=2" if counts[0] == 2 else f"95 % interval, n={counts[0]:.0f}")
    else:
        yield BoardColumn("spread", "95 % interval")
        yield BoardColumn("n", "n")


def _measured(source: Source, frame: pd.DataFrame) -> Iterator[BoardColumn]:
    """Yield the columns of what was measured besides the monitored metric, unless all are empty."""
    usual = {"test_accuracy": True, "params": False, "mult_adds": False, "seconds": False}
    spreads = {f"test_{name}" for name in SPREAD}
    tests = [name for name in map(str, frame) if name.startswith("test_") and name not in {*usual, *spreads}]
    headings = {"params": "Params", "mult_adds": "Mult-adds", "seconds": "Time"}
    for name in ("test_accuracy", *tests, *headings):
        if name not in source.dimensions and name in frame and frame[name].notna().any():
            yield BoardColumn(name, headings.get(name, name), rises=usual.get(name))


def _row(source: Source, columns: tuple[BoardColumn, ...], row: dict[Any, Any]) -> BoardRow:
    values = {name: _text(name, row[name]) for name in source.dimensions}
    entries = tuple(entry(source.metric, column, row) for column in columns)
    return BoardRow(int(row["rank"]), str(row["name"]), str(row["run_id"]), entries, values)


def entry(metric: str, column: BoardColumn, row: Mapping[Any, Any]) -> Entry:
    """Return the entry in `column` of a row from a leaderboard whose best_value is of `metric`."""
    name = column.name
    if name == "spread":
        low = row["worst"] if row["n"] == 2 else row["ci95_low"]
        return Entry(spread(metric, row) or "–", None if pd.isna(low) else float(low))
    value = row[name]
    if pd.isna(value):
        return Entry("–", None)
    text = _text(metric if name == "best_value" else name, value)
    return Entry(text, _key(value) if column.numeric else str(value))


def _text(name: str, value: Any) -> str:
    return "–" if pd.isna(value) else formatted(name, value)


def _key(value: Any) -> float | str | None:
    """Return what a value is sorted by; NaN and what is no number come last."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return None if math.isnan(number) else number


def _is_numeric(values: pd.Series[Any]) -> bool:
    return bool(pd.to_numeric(values.dropna(), errors="coerce").notna().all())


def _choices(source: Source) -> Iterator[Choice]:
    for name in source.dimensions:
        values = source.cells[name].map(lambda value, name=name: _text(name, value))
        found = sorted(set(values), key=value_order)
        if 1 < len(found) <= _MOST_CHOICES:
            yield Choice(name, tuple(found))
