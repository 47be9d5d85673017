"""Parallel coordinates: each cell is a line through its values of all dimensions, to the metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.render import formatted
from lab.report.sections.source import Source, round_numbers, value_order

__all__ = ["Axis", "Line", "Parallel", "parallel"]

_MOST_LISTED = 15  # values of an axis that are listed one by one


@dataclass(frozen=True)
class Axis:
    """A dimension or the metric: where along the axis, from 0 to 1, a value with this text is."""

    name: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """A cell: its position on each axis, None where it lacks the dimension, and its value of the metric."""

    rank: int
    name: str
    positions: tuple[float | None, ...]
    value: float


@dataclass(frozen=True)
class Parallel:
    """The axes, the metric as the last one, and the lines of the cells that have a value, the best first."""

    metric: str
    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


def parallel(source: Source) -> Parallel:
    """Return the parallel coordinates of the cells with a finite value; nothing if fewer than two vary."""
    cells, attrs = source.finished, source.trials.attrs
    names = [name for name in source.dimensions if cells[name].nunique(dropna=False) > 1]
    if len(cells) < 2 or not names:
        return Parallel(source.metric, (), ())
    found = [_axis(name, cells[name], attrs["ranges"].get(name)) for name in names]
    found.append(_numbers(source.metric, cells["best_value"].astype("float64"), log=False))
    positions = zip(*(places for _, places in found), strict=True)
    rows = zip(cells["rank"], cells["name"], positions, cells["best_value"], strict=True)
    lines = tuple(Line(int(rank), str(name), places, float(value)) for rank, name, places, value in rows)
    return Parallel(source.metric, tuple(axis for axis, _ in found), lines)


def _axis(name: str, values: pd.Series[Any], chosen_from: Any) -> tuple[Axis, list[float | None]]:
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    are_numbers = numbers.notna().equals(values.notna()) and numbers.notna().any()
    if chosen_from is not None or (values.nunique() > _MOST_LISTED and are_numbers):
        return _numbers(name, numbers, log=bool(chosen_from and chosen_from["log"]))
    texts = values.map(lambda value: "–" if pd.isna(value) else formatted(name, value))
    ordered = sorted(set(texts), key=value_order)
    places = {text: place / max(len(ordered) - 1, 1) for place, text in enumerate(ordered)}
    every = max(1, math.ceil(len(ordered) / _MOST_LISTED))
    return Axis(name, tuple((places[text], text) for text in ordered[::every])), [
        places[text] for text in texts
    ]


def _numbers(name: str, values: pd.Series[float], *, log: bool) -> tuple[Axis, list[float | None]]:
    """Return an axis from the lowest to the highest of `values`, on their log scale if `log`."""
    scaled = values.map(math.log) if log else values
    low, high = float(scaled.min()), float(scaled.max())
    width = (high - low) or 1.0
    ticks = [
        (math.log(at) if log else at, at)
        for at in round_numbers(float(values.min()), float(values.max()), log)
    ]
    places = [None if math.isnan(at) else (at - low) / width for at in scaled]
    return Axis(name, tuple(((at - low) / width, _short(name, value)) for at, value in ticks)), places


def _short(name: str, value: float) -> str:
    return formatted(name, value).replace(".00%", "%")
