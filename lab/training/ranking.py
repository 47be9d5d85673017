"""Which trial is the best: one order for everything that names a winner."""

from __future__ import annotations

import math

from lab.training.outcome import Outcome

__all__ = ["rank"]

_UNFINISHED = frozenset({"", Outcome.PRUNED, Outcome.FAILED, Outcome.KILLED})


def rank(
    outcome: str, value: float | None, params: float | None, number: int, *, maximize: bool
) -> tuple[int, float, float, int]:
    """Return the place of a trial as a key to sort by, the best first. What was measured on the test split has no say.

    Trials that came to their end are first, then those that did not, last those that diverged or have no finite
    value. The value decides, then fewer parameters, then the lower number.

    Args:
        outcome: how it ended; nothing where it has not.
        value: its best value of the monitored metric.
        params: how many parameters its model has.
        number: of the trial.
        maximize: whether higher values are better.
    """
    size = math.inf if params is None or math.isnan(params) else params
    if value is None or not math.isfinite(value):
        return 3, 0.0, size, number
    tier = 2 if outcome == Outcome.DIVERGED else int(outcome in _UNFINISHED)
    return tier, -value if maximize else value, size, number
