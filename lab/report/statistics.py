"""Means of repeats with their confidence intervals, and the Pareto front of accuracy and size."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from lab.config import bounds

__all__ = ["accuracy_interval", "half_width", "pareto_front", "summaries"]

_LEVEL = 0.95

Floats = npt.NDArray[np.float64]


def half_width(std: npt.ArrayLike, n: npt.ArrayLike) -> Floats:
    """Return half of the 95 % confidence interval of a mean: Student's t with n - 1 degrees of freedom.

    Args:
        std: standard deviation of the values (with n - 1 in its denominator).
        n: the number of values; fewer than two give NaN, because they have no spread.
    """
    values, counts = np.asarray(std, dtype=float), np.asarray(n, dtype=float)
    degrees = np.where(counts > 1, counts - 1, np.nan)
    quantile = stdtrit(degrees, (1 + _LEVEL) / 2)  # as scipy.stats.t.ppf, which takes 0.5 s to import
    return np.asarray(quantile * values / np.sqrt(np.maximum(counts, 1)), dtype=float)


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of one model's accuracy: Wilson's score interval (1927, JASA 22, 209).

    It says how sure the accuracy is given so few images, not how much it changes with the seed.
    """
    from scipy.stats import binomtest  # type: ignore[attr-defined]  # takes 0.5 s to import

    found = binomtest(correct, images).proportion_ci(_LEVEL, method="wilson")
    return float(found.low), float(found.high)


def summaries(
    values: pd.Series[float], groups: pd.Series[int], *, descending: bool = True, metric: str = ""
) -> pd.DataFrame:
    """Return a row for each group of `values`, indexed by its number.

    Args:
        values: numbers; NaN and infinities are ignored.
        groups: the number of each value's group, with the same index.
        descending: whether the highest value is the best.
        metric: the metric that the values are of.

    Returns:
        Columns mean, ci95 (half of the 95 % interval of the mean; NaN for one value, and if too few values give an
        interval with values that the metric cannot have, such as 119 %), n and best.
    """
    finite = values.astype("float64").where(values.astype("float64").map(math.isfinite))
    grouped = finite.groupby(groups)
    found = grouped.agg(["mean", "std", "count"])
    half = pd.Series(half_width(found["std"], found["count"]), index=found.index)
    lowest, highest = bounds(metric)
    possible = (found["mean"] - half >= lowest) & (found["mean"] + half <= highest)
    return pd.DataFrame(
        {
            "mean": found["mean"],
            "ci95": half.where(possible),
            "n": found["count"],
            "best": grouped.max() if descending else grouped.min(),
        }
    )


def pareto_front(accuracy: npt.ArrayLike, params: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return for each trial whether it is on the Pareto front of accuracy and size.

    It is if no other trial has a higher accuracy with no more parameters, or the same accuracy with fewer. Equal trials
    are on the front together; a trial without a finite accuracy or size is not.

    Args:
        accuracy: the accuracy of each trial.
        params: its number of parameters.
    """
    values, sizes = np.asarray(accuracy, dtype=float), np.asarray(params, dtype=float)
    front = np.zeros(len(values), dtype=bool)
    best, size_of_best = -math.inf, math.inf
    for at in np.lexsort((-values, sizes)):  # by size; within one size the most accurate first
        if not (math.isfinite(values[at]) and math.isfinite(sizes[at])):
            continue
        front[at] = values[at] > best or (values[at] == best and sizes[at] == size_of_best)
        if values[at] > best:
            best, size_of_best = values[at], sizes[at]
    return front
