"""Means of repeats with intervals that their metric can have, and the Pareto front of accuracy and size."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit, stdtrit

from lab.config import bounds

__all__ = ["FEWEST", "SPREAD", "accuracy_interval", "mean_interval", "pareto_front", "summaries"]

#: The fewest values of which an interval is given. Two have one degree of freedom: the interval of their mean is
#: twelve times as wide as they are apart, which says nothing; the two values themselves say more.
FEWEST: Final = 3
#: The columns of `summaries` that say how far the values of a group are apart.
SPREAD: Final = ("ci95_low", "ci95_high", "n", "best", "worst")

_LEVEL = 0.95

Floats = npt.NDArray[np.float64]


def mean_interval(
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
    n: npt.ArrayLike,
    within: tuple[float, float] = (-math.inf, math.inf),
    folds: npt.ArrayLike = 1,
) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % confidence interval of means, by Student's t with n - 1 degrees of freedom.

    The interval is computed on a scale without ends, with the standard error by the delta method, so that it never
    leaves what the metric can be: on the logit scale between two bounds, as SAS and R's `svyciprop` do (Korn and
    Graubard 1998, Survey Methodology 24, 193), and on the log scale above one.

    Folds share most of their training images, which adds to the variance of their mean, as images tested to trained
    (Nadeau and Bengio 2003, Machine Learning 52, 239; of repeated folds Bouckaert and Frank 2004, PAKDD, 3).

    Args:
        mean: of the values.
        std: their standard deviation (with n - 1 in its denominator); NaN results from 0, as equal values do not tell
            how far others are apart.
        n: the number of values; fewer than `FEWEST` give NaN.
        within: the lowest and the highest value that the metric can have.
        folds: the number of folds that the values are of; 1 if they are independent.
    """
    middle, spread, counts, parts = (np.asarray(values, dtype=float) for values in (mean, std, n, folds))
    known = (counts >= FEWEST) & (spread > 0)
    counts = np.where(known, counts, np.nan)
    shared = np.where(parts > 1, 1 / np.maximum(parts - 1, 1), 0)
    # as scipy.stats.t.ppf, which takes 0.5 s to import
    half = np.asarray(stdtrit(counts - 1, (1 + _LEVEL) / 2) * spread * np.sqrt(1 / counts + shared))
    lowest, highest = within
    with np.errstate(divide="ignore", invalid="ignore"):  # a mean at a bound, where no value differs
        if math.isfinite(lowest) and math.isfinite(highest):
            share = (middle - lowest) / (highest - lowest)
            off = half / (highest - lowest) / (share * (1 - share))
            ends = tuple(lowest + (highest - lowest) * expit(logit(share) + sign * off) for sign in (-1, 1))
        elif math.isfinite(lowest):
            ends = tuple(
                lowest + (middle - lowest) * np.exp(sign * half / (middle - lowest)) for sign in (-1, 1)
            )
        else:
            ends = (middle - half, middle + half)
    low, high = ends
    return low, high


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of one model's accuracy: Wilson's score interval (1927, JASA 22, 209).

    It says how sure the accuracy is given so few images, not how much it changes with the seed.
    """
    from scipy.stats import binomtest  # type: ignore[attr-defined]  # takes 0.5 s to import

    found = binomtest(correct, images).proportion_ci(_LEVEL, method="wilson")
    return float(found.low), float(found.high)


def summaries(
    values: pd.Series[float],
    groups: pd.Series[int],
    *,
    descending: bool = True,
    metric: str = "",
    folds: pd.Series[str] | None = None,
) -> pd.DataFrame:
    """Return a row for each group of `values`, indexed by its number.

    Args:
        values: numbers; NaN and infinities are ignored.
        groups: the number of each value's group, with the same index.
        descending: whether the highest value is the best.
        metric: the metric that the values are of; its interval has only values that it can have.
        folds: the fold of each value; None if they are independent.

    Returns:
        Columns mean, ci95_low and ci95_high (the ends of the 95 % interval of the mean; NaN for fewer than `FEWEST`
        values, and for equal ones), n, best and worst. Of two values, best and worst are all there is to say.
    """
    finite = values.astype("float64").where(values.astype("float64").map(math.isfinite))
    grouped = finite.groupby(groups)
    found = grouped.agg(["mean", "std", "count", "min", "max"])
    within = bounds(metric, finite.dropna())
    parts = 1 if folds is None else folds.where(finite.notna()).groupby(groups).nunique()
    low, high = mean_interval(found["mean"], found["std"], found["count"], within, parts)
    return pd.DataFrame(
        {
            "mean": found["mean"],
            "ci95_low": low,
            "ci95_high": high,
            "n": found["count"],
            "best": found["max" if descending else "min"],
            "worst": found["min" if descending else "max"],
        },
        index=found.index,
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
