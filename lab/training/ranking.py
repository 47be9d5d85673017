"""Which trial is best: the one order used wherever a winner is named."""

from __future__ import annotations

import math

from lab.training.outcome import Outcome

__all__ = ["rank"]

_UNFINISHED = frozenset({"", Outcome.PRUNED, Outcome.FAILED, Outcome.KILLED})


def rank(
    outcome: str, value: float | None, params: float | None, number: int, *, maximize: bool
) -> tuple[int, float, float, int]:
    """Return a sort key for a trial, best first. Results on the test split do not matter.

    Finished trials come first, then unfinished ones, then those that diverged or have no finite value. Among these,
    the value decides, then fewer parameters, then the lower number.

    Args:
        outcome: how it ended; empty if it has not.
        value: its best value of the monitored metric.
        params: number of parameters of its model.
        number: of the trial.
        maximize: whether higher values are better.
    """
    size = math.inf if params is None or math.isnan(params) else params
    if value is None or not math.isfinite(value):
        return 3, 0.0, size, number
    tier = 2 if outcome == Outcome.DIVERGED else int(outcome in _UNFINISHED)
    return tier, -value if maximize else value, size, number
