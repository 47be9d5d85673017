"""Differences between two samples of a metric: an interval, a test, and whether the two can be told apart.

Importing this module imports scipy.stats, which takes 0.5 s.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from lab.config import bounds
from lab.report.statistics import FEWEST

__all__ = ["Difference", "McNemar", "corrected", "difference", "holm", "mcnemar"]

_LEVEL = 0.95
_SIGNED_RANKS = "Wilcoxon's signed-rank test"
_FEWEST_RANKED = 6  # with fewer pairs, no signed-rank test can reach 5 %

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How two samples of a metric differ: A minus B.

    Attributes:
        a: the values of A that are compared; of pairs in the same order as `b`.
        b: those of B.
        pairs: what the pairs have in common, such as `seed`; empty if the samples are not paired.
        value: the difference of the means; of a signed-rank test the median of the pairs' averages (Hodges and Lehmann
            1963), which no single outlier moves.
        low: the lower end of its 95 % interval; NaN if there are too few values for one.
        high: the upper end.
        test: what `p` is from; empty if there are too few values for a test.
        p: probability of a difference at least as large if there is none; NaN without a test.
        p_corrected: the same by Holm's correction, if this is one of many comparisons.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    pairs: str
    value: float
    low: float = math.nan
    high: float = math.nan
    test: str = ""
    p: float = math.nan
    p_corrected: float = math.nan

    @property
    def is_clear(self) -> bool:
        """Whether the two can be told apart: at 5 %, after the correction if there is one."""
        p = self.p if math.isnan(self.p_corrected) else self.p_corrected
        return p < 1 - _LEVEL and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class McNemar:
    """How the predictions of two models for the same images differ.

    Attributes:
        images: number of images.
        a_correct: how many of them A recognises.
        b_correct: how many B recognises.
        only_a: how many only A recognises.
        only_b: how many only B recognises.
        low: lower end of the 95 % interval of the difference of the accuracies, A minus B.
        high: the upper end.
        p: of the exact test.
    """

    images: int
    a_correct: int
    b_correct: int
    only_a: int
    only_b: int
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """The difference of the accuracies, A minus B."""
        return (self.only_a - self.only_b) / self.images

    @property
    def is_clear(self) -> bool:
        """Whether the two models can be told apart on such images, at 5 %."""
        return self.p < 1 - _LEVEL


def difference(a: Sequence[float], b: Sequence[float], *, pairs: str = "", metric: str = "") -> Difference:
    """Return how two samples differ.

    Pairs of cells are tested by Wilcoxon's signed ranks if there are at least six (Demšar 2006, JMLR 7, 1): cells are
    not alike, and one that fails would hide what all others say. Repeats of one cell are alike but few, and no
    signed-rank test of five pairs can reach 5 %: pairs of seeds are tested by the paired t-test, samples that are not
    paired by Welch's (Colas et al. 2018, arXiv:1806.08295). Folds share most of their training images, so that the
    t-test finds differences where there are none: pairs of folds are tested by Nadeau and Bengio's corrected one (2003,
    Machine Learning 52, 239). The interval belongs to the test.

    Args:
        a: values of A.
        b: values of B; of pairs, in the same order.
        pairs: what the pairs have in common (`seed`, `fold`, `cell`); empty if the samples are not paired. Of each fold
            there is one pair.
        metric: that the values are of; the interval has only differences that it can have.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    value = float(first.mean() - second.mean())
    found = Difference(tuple(map(float, first)), tuple(map(float, second)), pairs, value)
    if min(len(first), len(second)) < FEWEST:
        return found
    tested = _paired(found, _pairwise(first, second)) if pairs else _welch(found, first, second)
    lowest, highest = bounds(metric, (*found.a, *found.b))
    widest = highest - lowest
    return replace(tested, low=max(float(tested.low), -widest), high=min(float(tested.high), widest))


def corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Return `differences` with p values that are corrected for their number; those without a test stay as they are."""
    tested = [each.p for each in differences if each.test]
    found = iter(holm(tested))
    return tuple(replace(each, p_corrected=next(found)) if each.test else each for each in differences)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down method (1979, Scand. J. Statist. 6, 65)."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(order), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(np.asarray(p, dtype=float)[order] * factors), 1.0)
    result = np.empty(len(order))
    result[order] = stepped
    return [float(value) for value in result]


def mcnemar(labels: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> McNemar:
    """Return how the predictions of two models differ, by the exact test of McNemar (1947; Dietterich 1998).

    It compares the images that only one of them recognises, with the exact binomial interval of Clopper and Pearson of
    their share. It says nothing about how the models would differ after training with other seeds.

    Args:
        labels: of the images, [N].
        a: predicted by A, [N].
        b: predicted by B, [N].
    """
    true, one, other = (np.asarray(values) for values in (labels, a, b))
    a_right, b_right = one == true, other == true
    only_a, only_b = int((a_right & ~b_right).sum()), int((~a_right & b_right).sum())
    either, images = only_a + only_b, len(true)
    p, share = 1.0, (0.0, 1.0)
    if either:
        test = stats.binomtest(only_a, either)  # type: ignore[attr-defined]
        p, share = test.pvalue, test.proportion_ci(_LEVEL, method="exact")
    low, high = ((2 * end - 1) * either / images for end in share)
    return McNemar(
        images, int(a_right.sum()), int(b_right.sum()), only_a, only_b, float(low), float(high), float(p)
    )


def _pairwise(a: Floats, b: Floats) -> Floats:
    """Return the differences of pairs, those that only rounding tells apart as equal.

    Accuracies are multiples of one image: 0.98 - 0.97 and 0.97 - 0.96 are ties.
    """
    scale = float(max(np.abs(a).max(), np.abs(b).max())) or 1.0
    return np.asarray(np.round((a - b) / scale, 9) * scale)


def _paired(found: Difference, differences: Floats) -> Difference:
    by_cell = found.pairs == "cell" and len(differences) >= _FEWEST_RANKED
    if by_cell or np.ptp(differences) == 0:
        return _signed_ranks(found, differences)
    if found.pairs == "fold":
        return _corrected_t(found, differences)
    test = stats.ttest_rel(found.a, found.b)
    low, high = test.confidence_interval(_LEVEL)
    return replace(found, low=low, high=high, p=float(test.pvalue), test="paired t-test")


def _corrected_t(found: Difference, differences: Floats) -> Difference:
    """Return the t-test of folds: what they share adds to the variance of their mean, as images tested to trained."""
    n = len(differences)
    error = math.sqrt((1 / n + 1 / (n - 1)) * differences.var(ddof=1))
    half = error * float(stats.t.ppf((1 + _LEVEL) / 2, n - 1))  # type: ignore[attr-defined]
    p = 2 * float(stats.t.sf(abs(found.value) / error, n - 1))  # type: ignore[attr-defined]
    low, high = found.value - half, found.value + half
    return replace(found, low=low, high=high, p=p, test="corrected t-test")


def _welch(found: Difference, a: Floats, b: Floats) -> Difference:
    if np.ptp(a) == np.ptp(b) == 0:  # no variance to go by
        p = stats.mannwhitneyu(a, b, method="exact").pvalue  # type: ignore[attr-defined]
        return replace(found, p=float(p), test="Mann-Whitney U test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one sample without spread, which Welch's test allows for
        test = stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(_LEVEL)
    return replace(found, low=low, high=high, p=float(test.pvalue), test="Welch's t-test")


def _signed_ranks(found: Difference, differences: Floats) -> Difference:
    """Return the test by signed ranks, with the interval of the pseudo-median (Hollander and Wolfe 1999, 3.2, 3.3)."""
    if not differences.any():
        return replace(found, low=0.0, high=0.0, p=1.0, test=_SIGNED_RANKS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties, with which the normal approximation is used
        p = stats.wilcoxon(differences).pvalue
    first, second = np.triu_indices(len(differences))
    averages = np.sort((differences[first] + differences[second]) / 2)  # Walsh's
    cut = _critical(len(differences))
    ends = (averages[cut - 1], averages[-cut]) if cut else (math.nan, math.nan)
    return replace(
        found,
        value=float(np.median(averages)),
        low=float(ends[0]),
        high=float(ends[1]),
        p=float(p),
        test=_SIGNED_RANKS,
    )


def _critical(n: int) -> int:
    """Return which of the sorted averages of `n` pairs ends the 95 % interval, from 1; 0 if there are too few pairs."""
    chances = np.ones(1)  # of each sum of positive ranks, if every sign is a coin toss
    for rank in range(1, n + 1):
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return int(np.searchsorted(np.cumsum(chances), (1 - _LEVEL) / 2, side="right"))
