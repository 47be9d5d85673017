"""Slices through the grid: the mean of each value of a dimension, and of each pair of values of two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lab.report.effects import effects, grouped
from lab.report.sections.source import Source, value_order

__all__ = ["HeatMap", "Slice", "Slices", "slices"]

_MOST_SLICES = 12
_MOST_PAIRS = 10
_MOST_VALUES = 30  # of a dimension


@dataclass(frozen=True)
class Slice:
    """The values of a dimension in their order: the mean over the rest, its 95 % interval (NaN: none), and n."""

    name: str
    values: tuple[str, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class HeatMap:
    """The mean over the rest for each pair of values; `means[row][column]`, NaN without a trial."""

    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    means: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Slices:
    """Slices and heat maps of a metric, and what is not among them, in words."""

    metric: str
    slices: tuple[Slice, ...]
    maps: tuple[HeatMap, ...]
    left_out: str


def slices(source: Source, order: Sequence[str] = ()) -> Slices:
    """Return the slices and heat maps of the dimensions that vary.

    Args:
        source: of the study.
        order: names of dimensions, the most important first; if there are too many, these are shown.
    """
    trials = source.trials
    known = [name for name in source.dimensions if trials[name].nunique(dropna=False) > 1]
    names = sorted(known, key=lambda name: list(order).index(name) if name in order else len(order))
    if source.finished.empty or not names:
        return Slices(source.metric, (), (), "")
    pairs = list(itertools.combinations(names, 2))
    found = tuple(_slice(source, name) for name in names[:_MOST_SLICES])
    maps = tuple(_map(source, *pair) for pair in pairs[:_MOST_PAIRS])
    return Slices(source.metric, found, maps, _left_out(names, len(pairs)))


def _left_out(names: Sequence[str], pairs: int) -> str:
    parts = []
    if len(names) > _MOST_SLICES:
        parts.append(f"the first {_MOST_SLICES} of {len(names)} dimensions")
    if pairs > _MOST_PAIRS:
        parts.append(f"{_MOST_PAIRS} of {pairs} pairs of dimensions")
    return f"Shown are {' and '.join(parts)}, the most important first." if parts else ""


def _slice(source: Source, name: str) -> Slice:
    table = effects(source.trials, [name])
    table["text"] = table["value"].map(_text)
    rows = sorted(table.to_dict("records"), key=lambda row: value_order(row["text"]))[:_MOST_VALUES]

    def column(key: str) -> tuple[float, ...]:
        return tuple(float(row[key]) for row in rows)

    counts = tuple(int(row["n"]) for row in rows)
    texts = tuple(row["text"] for row in rows)
    return Slice(name, texts, column("mean"), column("ci95_low"), column("ci95_high"), counts)


def _map(source: Source, down: str, across: str) -> HeatMap:
    texts = {name: grouped(source.trials, name).map(_text) for name in (down, across)}
    groups = source.trusted.groupby([texts[down], texts[across]])
    means, counts = groups.mean().unstack(), groups.count().unstack()
    rows, columns = (sorted(set(texts[name]), key=value_order)[:_MOST_VALUES] for name in (down, across))
    return HeatMap(
        across,
        down,
        tuple(columns),
        tuple(rows),
        tuple(tuple(float(value) for value in row) for row in _part(means, rows, columns, math.nan)),
        tuple(tuple(int(value) for value in row) for row in _part(counts, rows, columns, 0)),
    )


def _part(table: pd.DataFrame, rows: list[str], columns: list[str], missing: float) -> list[list[float]]:
    found: list[list[float]] = table.reindex(index=rows, columns=columns).fillna(missing).to_numpy().tolist()
    return found


def _text(value: object) -> str:
    return "–" if pd.isna(value) else str(value)  # type: ignore[call-overload]
