"""Accuracy against what it costs: parameters, mult-adds and seconds, with the Pareto front of each."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lab.report.sections.source import Source
from lab.report.statistics import pareto_front

__all__ = ["Tradeoff", "TradeoffPoint", "tradeoffs"]

_COSTS = {"params": "parameters", "mult_adds": "mult-adds", "seconds": "training time (s)"}


@dataclass(frozen=True)
class TradeoffPoint:
    """A cell: what it costs, its accuracy, and whether no other is as good for less."""

    rank: int
    name: str
    cost: float
    accuracy: float
    on_front: bool


@dataclass(frozen=True)
class Tradeoff:
    """The cells by one cost; `heading` says what it is."""

    cost: str
    heading: str
    accuracy: str
    points: tuple[TradeoffPoint, ...]


def tradeoffs(source: Source) -> tuple[Tradeoff, ...]:
    """Return the trade-offs of which both sides were measured and the cost differs between the cells."""
    cells = source.sound.assign(mult_adds=source.cell_metric("mult_adds"))
    accuracy = "test_accuracy" if cells["test_accuracy"].notna().any() else "best_value"
    if accuracy == "best_value" and not source.descending:
        return ()
    found = (_tradeoff(source, cells, cost, accuracy) for cost in _COSTS)
    return tuple(each for each in found if len({point.cost for point in each.points}) > 1)


def _tradeoff(source: Source, cells: pd.DataFrame, cost: str, accuracy: str) -> Tradeoff:
    costs, values = cells[cost].astype("float64"), cells[accuracy].astype("float64")
    known = costs.notna() & values.notna()
    front = pareto_front(values[known], costs[known])
    rows = zip(cells["rank"][known], cells["name"][known], costs[known], values[known], front, strict=True)
    points = (TradeoffPoint(int(r), str(name), float(c), float(v), bool(f)) for r, name, c, v, f in rows)
    shown = source.metric if accuracy == "best_value" else accuracy
    return Tradeoff(cost, _COSTS[cost], shown, tuple(points))
