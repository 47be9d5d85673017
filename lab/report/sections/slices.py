"""Slices through the grid: the mean of each value of a dimension, and of each pair of values of two."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.effects import effects, grouped, not_same_cells
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
    """Slices and heat maps of a metric, and in words what is not among them, or not comparable."""

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
    values = {name: _values(source, name) for name in names[:_MOST_SLICES]}
    found = tuple(_slice(each) for each in values.values())
    shown = [pair for pair in pairs if values.keys() >= {*pair}][:_MOST_PAIRS]
    maps = tuple(_map(source, values[down], values[across]) for down, across in shown)
    said = (
        _left_out(names, len(pairs), values.values()),
        not_same_cells([each.name for each in values.values() if not each.same_cells]),
    )
    return Slices(source.metric, found, maps, " ".join(filter(None, said)))


@dataclass(frozen=True)
class _Values:
    """The values of a dimension: how each did, those to show in their order, and the text of each trial's."""

    name: str
    effects: Mapping[str, Mapping[Any, Any]]
    shown: tuple[str, ...]
    of_trials: pd.Series[str]

    @property
    def same_cells(self) -> bool:
        """Whether its values are compared over the same combinations."""
        return all(row["same_cells"] for row in self.effects.values())


def _values(source: Source, name: str) -> _Values:
    of_trials = grouped(source.trials, name).map(_text)
    table = effects(source.trials, [name])
    found = {_text(row["value"]): row for row in table.to_dict("records")}
    best = (next(iter(found)), of_trials.iloc[0])  # on average, and of the best trial
    return _Values(name, found, _thinned(sorted(found, key=value_order), best), of_trials)


def _thinned(ordered: Sequence[str], best: Collection[str]) -> tuple[str, ...]:
    """Return at most `_MOST_VALUES` of the values, evenly, with the first, the last and the `best`."""
    last = len(ordered) - 1
    if last < _MOST_VALUES:
        return tuple(ordered)
    places = {round(at * last / (_MOST_VALUES - 1)) for at in range(_MOST_VALUES)}
    kept = {0, last, *(ordered.index(value) for value in best)}
    for place in kept - places:
        near = min((abs(other - place), other) for other in places - kept)
        places = places - {near[1]} | {place}
    return tuple(ordered[place] for place in sorted(places))


def _left_out(names: Sequence[str], pairs: int, values: Iterable[_Values]) -> str:
    thinned = [
        f"Of {each.name} {len(each.shown)} of {len(each.effects)} values are shown, the best among them."
        for each in values
        if len(each.shown) < len(each.effects)
    ]
    parts = []
    if len(names) > _MOST_SLICES:
        parts.append(f"the first {_MOST_SLICES} of {len(names)} dimensions")
    if pairs > _MOST_PAIRS:
        parts.append(f"{_MOST_PAIRS} of {pairs} pairs of dimensions")
    first = [f"Shown are {' and '.join(parts)}, the most important first."] if parts else []
    return " ".join((*first, *thinned))


def _slice(values: _Values) -> Slice:
    rows = [values.effects[text] for text in values.shown]

    def column(key: str) -> tuple[float, ...]:
        return tuple(float(row[key]) for row in rows)

    counts = tuple(int(row["n"]) for row in rows)
    return Slice(values.name, values.shown, column("mean"), column("ci95_low"), column("ci95_high"), counts)


def _map(source: Source, down: _Values, across: _Values) -> HeatMap:
    groups = source.trusted.groupby([down.of_trials, across.of_trials])
    means, counts = groups.mean().unstack(), groups.count().unstack()
    rows, columns = down.shown, across.shown
    return HeatMap(
        across.name,
        down.name,
        columns,
        rows,
        tuple(tuple(float(value) for value in row) for row in _part(means, rows, columns, math.nan)),
        tuple(tuple(int(value) for value in row) for row in _part(counts, rows, columns, 0)),
    )


def _part(
    table: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], missing: float
) -> list[list[float]]:
    found: list[list[float]] = (
        table.reindex(index=[*rows], columns=[*columns]).fillna(missing).to_numpy().tolist()
    )
    return found


def _text(value: object) -> str:
    return "–" if pd.isna(value) else str(value)  # type: ignore[call-overload]
