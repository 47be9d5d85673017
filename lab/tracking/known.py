"""The one place that decides whether a metric value is new to a run.

MLflow keeps a value that is logged twice at different times as two. A continued trial logs some of its values again,
and so does a journal whose last delivery was cut short. So a run that is re-opened keeps what it has:

- a curve (a metric with steps) its first value of each step;
- a metric without steps, which is a fact about the trial, its value until it gets another one.

Values logged while a run is open are not compared with each other. Nor are those that an attempt which slept logs
after another has re-opened the run; facts that both know beforehand are therefore dated alike (`Run.log_facts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lab.tracking.base import Metric

__all__ = ["Known"]


class Known:
    """The metric values that a run had when it was opened.

    Args:
        latest: of each metric the value of the highest step; nothing for a new run.
        history: returns the values of a metric by step; asked only where `latest` does not tell.
    """

    def __init__(self, latest: Mapping[str, Metric], history: Callable[[str], Mapping[int, float]]) -> None:
        self._latest = dict(latest)
        self._history = history
        self._values: dict[str, Mapping[int, float]] = {}

    def fact(self, name: str) -> Metric | None:
        """Return the value of a metric without steps, None if there is none."""
        latest = self._latest.get(name)
        return latest if latest is not None and latest.step == 0 else None

    def has(self, metric: Metric, *, only_missing: bool = False) -> bool:
        """Return whether the run has this value already.

        Args:
            metric: the value.
            only_missing: whether any value at this step will do, also of a metric without steps.
        """
        latest = self._latest.get(metric.name)
        if latest is None or metric.step > latest.step:
            return False
        if latest.step == 0 == metric.step:
            return only_missing or _same(latest.value, metric.value)
        if metric.name not in self._values:
            self._values[metric.name] = self._history(metric.name)
        return metric.step in self._values[metric.name]


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
