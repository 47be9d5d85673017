"""How important each dimension of a study was, how sure that is, and which dimensions depend on each other.

Importing this module imports Optuna, and using it scikit-learn: that takes a second or two.
"""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import create_trial
from scipy.special import fdtrc

from lab.errors import StudyError
from lab.report.differences import holm
from lab.report.effects import grouped
from lab.report.repeats import compared, is_averaged
from lab.wording import counted

__all__ = ["FEWEST_CELLS", "DimensionImportance", "Interaction", "Share", "StudyImportance", "importance"]

#: With fewer cells, nothing is said about which dimension matters: fewer than five would be among the best half.
FEWEST_CELLS: Final = 10
_SURE = 0.95  # of the resamples in which a dimension must come first
_RESAMPLES = 100
_TREES, _DEPTH = 16, 8  # of fANOVA: nearly the same as Optuna's 64 trees of any depth, in a tenth of the time
_FEWEST_TOP = 5  # trials that PED-ANOVA should count as the best, as Optuna advises
_TOP = 0.1  # share of the trials that it does, if these are enough
_LEVEL = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """A share of the importance, with the ends of its 95 % bootstrap interval; NaN if it cannot be computed.

    `first` is in which share of the resamples it was the largest.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    first: float = 0.0


@dataclass(frozen=True)
class DimensionImportance:
    """How important one dimension was.

    Attributes:
        name: of the dimension.
        best: its share in what tells the best cells from the others (PED-ANOVA).
        overall: its share in the variance over all cells (fANOVA); NaN if only some cells have the dimension.
        p: probability of means that differ as much if it has no effect, by the F test, corrected for the number of
            dimensions (Holm); NaN if there are too few cells.
        cells: number of cells that have it.
    """

    name: str
    best: Share
    overall: Share
    p: float
    cells: int

    @property
    def is_clear(self) -> bool:
        """Whether the cells tell that it has an effect, at 5 %."""
        return self.p < 1 - _LEVEL


@dataclass(frozen=True)
class Interaction:
    """How much the effect of one dimension depends on the value of another.

    `share` is the share of the variance that is only explained by both together, beyond their own effects (epsilon
    squared, Kelley 1935); `p` is that of the F test, corrected for the number of pairs (Holm).
    """

    first: str
    second: str
    share: float
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether the cells tell that there is an interaction, at 5 %."""
        return self.p < 1 - _LEVEL


@dataclass(frozen=True)
class StudyImportance:
    """How important the dimensions of a study were for a metric: the most important for the best cells first.

    Attributes:
        metric: that was looked at.
        cells: number of cells with a value; repeats of a cell were averaged first.
        trials: number of their trials.
        dimensions: those that vary among them.
        interactions: of pairs of dimensions, the largest first.
    """

    metric: str
    cells: int
    trials: int
    dimensions: tuple[DimensionImportance, ...]
    interactions: tuple[Interaction, ...]

    @property
    def best_leader(self) -> DimensionImportance | None:
        """The dimension that mattered most for the best cells; None if there are too few cells to tell."""
        return self._leader("best")

    @property
    def overall_leader(self) -> DimensionImportance | None:
        """The dimension that mattered most over all cells; None if there are too few cells to tell."""
        return self._leader("overall")

    def _leader(self, measure: Literal["best", "overall"]) -> DimensionImportance | None:
        sure = (each for each in self.dimensions if each.is_clear and getattr(each, measure).first >= _SURE)
        return next(sure, None) if self.cells >= FEWEST_CELLS else None


def importance(
    trials: pd.DataFrame, varied: Sequence[str], metric: str | None = None, *, resamples: int = _RESAMPLES
) -> StudyImportance:
    """Return how important each dimension was.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255; of conditional dimensions 2026, arXiv:2601.20800) asks what
    tells the best tenth of the cells, and at least five, from all; fANOVA (Hutter et al. 2014) what explains the
    variance over all cells, also the bad ones. Both are Optuna's. The intervals are those of the percentile bootstrap
    over cells (Efron 1979). A log range counts on its log scale.

    Args:
        trials: a row for each trial, as `leaderboard` returns with `repeats="each"`.
        varied: the dimensions. Seeds and folds are repeats, of which the means are taken.
        metric: column to look at; the one that `trials` are ranked by if None.
        resamples: of PED-ANOVA; a fifth of them of fANOVA.

    Raises:
        StudyError: fewer than two cells have a value, all have the same, or nothing varies among them.
    """
    metric = metric or trials.attrs.get("metric", "best_value")
    meant = trials.attrs.get("monitor", metric) if metric == "best_value" else metric
    cells, values, counted_trials = _cells(trials, compared(varied), metric)
    names = _varying(cells, compared(varied))
    _check(meant, names, values, len(trials))
    ranges = trials.attrs.get("ranges", {})
    descending = trials.attrs.get("descending", True)
    estimates = _Estimates(_optuna_trials(cells[names], ranges), values, names, descending)
    best, overall = estimates.ped_anova(resamples), estimates.fanova(cells[names], resamples // 5)
    effects, pairs = _variance(_categories(cells, names, ranges), values)
    dimensions = [
        DimensionImportance(
            name,
            best[name],
            overall[name],
            effects[name],
            int(cells[name].notna().sum()),
        )
        for name in names
    ]
    ordered = sorted(dimensions, key=lambda each: -each.best.value)
    return StudyImportance(meant, len(values), counted_trials, tuple(ordered), pairs)


def _cells(trials: pd.DataFrame, dimensions: list[str], metric: str) -> tuple[pd.DataFrame, Floats, int]:
    """Return the cells that have a value, a row each, their values and the number of their trials."""
    if trials.empty or not dimensions:
        return trials.head(0), np.empty(0), 0
    numbers = trials.groupby(dimensions, dropna=False, sort=False).ngroup()
    values = pd.to_numeric(trials[metric]).astype("float64")
    counts = values.map(math.isfinite) & is_averaged(trials, numbers)
    means = values[counts].groupby(numbers[counts]).mean()
    firsts = trials[~numbers.duplicated()].set_index(numbers[~numbers.duplicated()])
    found = firsts.loc[means.index].reset_index(drop=True)
    found.attrs = trials.attrs
    return found, np.asarray(means, dtype=np.float64), int(counts.sum())


def _varying(cells: pd.DataFrame, dimensions: Sequence[str]) -> list[str]:
    return [name for name in dimensions if name in cells and cells[name].nunique(dropna=False) > 1]


def _check(metric: str, names: Sequence[str], values: Floats, trials: int) -> None:
    if len(values) < 2:
        raise StudyError(
            f"Importance needs at least two cells with a finite {metric}, but found {counted(len(values), 'cell')} "
            f"among {counted(trials, 'trial')}"
        )
    if not names:
        raise StudyError(
            f"Nothing varies among the {len(values)} cells with a finite {metric} but seeds or folds"
        )
    if np.ptp(values) == 0:
        raise StudyError(
            f"All {len(values)} cells have the same {metric}, {values[0]:.4g}: nothing made a difference"
        )


def _optuna_trials(cells: pd.DataFrame, ranges: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the params and distributions of each cell; a dimension that is not active in it is left out."""
    columns = {str(name): _numbers(cells[name], ranges.get(str(name))) for name in cells}
    distributions = {name: _distribution(values) for name, values in columns.items()}
    rows: list[dict[str, Any]] = []
    for at in range(len(cells)):
        params = {name: values.iloc[at] for name, values in columns.items() if pd.notna(values.iloc[at])}
        rows.append({"params": params, "distributions": {name: distributions[name] for name in params}})
    return rows


def _numbers(values: pd.Series[Any], chosen_from: Mapping[str, Any] | None) -> pd.Series[Any]:
    """Return the values of a range as numbers, of a log range as logarithms; listed values stay texts."""
    if chosen_from is None:
        return values
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    return numbers.map(math.log) if chosen_from["log"] else numbers


def _distribution(values: pd.Series[Any]) -> BaseDistribution:
    there = values.dropna()
    if there.dtype.kind == "f":
        return FloatDistribution(float(there.min()), float(there.max()))
    return CategoricalDistribution(sorted(there.unique()))


class _Estimates:
    """Shares of importance by Optuna's evaluators, of all cells and of resamples."""

    def __init__(
        self, trials: Sequence[Mapping[str, Any]], values: Floats, names: Sequence[str], descending: bool
    ) -> None:
        self._trials = trials
        self._values = values
        self._names = names
        self._direction: Literal["maximize", "minimize"] = "maximize" if descending else "minimize"
        self._random = np.random.default_rng(0)

    def ped_anova(self, resamples: int) -> dict[str, Share]:
        """Return the share of each dimension by PED-ANOVA in what that finds for all of them."""
        top = min(max(_TOP, _FEWEST_TOP / len(self._trials)), 0.5)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=top)
        whole, drawn = self._resampled(evaluator, self._names, resamples)
        return _shares(self._names, _relative(whole), _relative(drawn))

    def fanova(self, cells: pd.DataFrame, resamples: int) -> dict[str, Share]:
        """Return the share of the variance by fANOVA of each dimension that all cells have; it takes no others.

        The rest of the variance is what only several dimensions together explain.
        """
        always = [name for name in self._names if cells[name].notna().all()]
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=0)
        found = dict.fromkeys(self._names, Share())
        if always:
            found |= _shares(always, *self._resampled(evaluator, always, resamples))
        return found

    def _resampled(self, evaluator: Any, names: Sequence[str], resamples: int) -> tuple[Floats, Floats]:
        """Return the importance of `names`, [D], and that of each resample, [R, D]."""
        everything = np.arange(len(self._trials))
        draws = (self._random.choice(everything, len(everything)) for _ in range(resamples))
        with _quiet():
            whole, *drawn = (
                self._evaluated(evaluator, names, rows) for rows in itertools.chain([everything], draws)
            )
        return whole, np.stack(drawn) if drawn else whole[None]

    def _evaluated(self, evaluator: Any, names: Sequence[str], rows: npt.NDArray[np.int_]) -> Floats:
        study = optuna.create_study(direction=self._direction)
        study.add_trials([create_trial(**self._trials[row], value=self._values[row]) for row in rows])
        known = {name for row in rows for name in self._trials[row]["params"]}
        found: dict[str, float] = {}
        with suppress(RuntimeError):  # fANOVA's, for a resample in which hardly any values differ
            found = evaluator.evaluate(study, params=[name for name in names if name in known])
        return np.array([max(float(found.get(name, 0.0)), 0.0) for name in names])


def _relative(importances: Floats) -> Floats:
    """Return the share of each dimension, the last axis, in the sum; zeros where there is nothing to share."""
    total = importances.sum(-1, keepdims=True)
    return np.asarray(np.divide(importances, total, out=np.zeros_like(importances), where=total > 0))


def _shares(names: Sequence[str], whole: Floats, drawn: Floats) -> dict[str, Share]:
    tail = (1 - _LEVEL) / 2
    told = drawn[drawn.any(1)]  # without resamples that tell nothing: in these, no dimension is the largest
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    # a resample has some cells twice, which favours the strongest: its shares can all lie on one side of the estimate
    low, high = np.minimum(low, whole), np.maximum(high, whole)
    firsts = np.bincount(told.argmax(1), minlength=len(names)) / len(drawn)
    return {
        name: Share(*map(float, found)) for name, *found in zip(names, whole, low, high, firsts, strict=True)
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing each study, and from warning of resamples with few trials."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _categories(
    cells: pd.DataFrame, names: Sequence[str], ranges: Mapping[str, Mapping[str, Any]]
) -> dict[str, Floats]:
    """Return the values of each dimension as columns of zeros and ones, [N, values]; ranges in parts."""
    values = {name: grouped(cells, name) if name in ranges else cells[name] for name in names}
    return {
        name: pd.get_dummies(column.astype("object").fillna("–")).to_numpy(dtype=float)
        for name, column in values.items()
    }


def _variance(
    columns: Mapping[str, Floats], values: Floats
) -> tuple[dict[str, float], tuple[Interaction, ...]]:
    """Return the corrected p value of each dimension's effect, and the interactions, by least squares.

    An effect is what the dimension explains beyond all others; an interaction is what a mean for each pair of values
    explains beyond all effects. In a complete grid that is the two-way analysis of variance of its marginal means.
    """
    every = _Fit.of([*columns.values()], values)
    effects = {name: _effect(name, columns, values) for name in columns}
    pairs = list(itertools.combinations(columns, 2))
    larger = [_Fit.of([*columns.values(), _products(columns[a], columns[b])], values) for a, b in pairs]
    total = float(((values - values.mean()) ** 2).sum())
    found = [
        Interaction(a, b, _epsilon(every, fit, total), p)
        for (a, b), fit, p in zip(
            pairs, larger, _corrected([_f_test(every, fit) for fit in larger]), strict=True
        )
    ]
    corrected = dict(zip(effects, _corrected([*effects.values()]), strict=True))
    return corrected, tuple(sorted(found, key=lambda each: -np.nan_to_num(each.share, nan=-1.0)))


def _effect(name: str, columns: Mapping[str, Floats], values: Floats) -> float:
    """Return the p value of a dimension's effect beyond the others.

    Which cells have a conditional dimension tells the value of the one that it depends on. So what the others explain
    already, such as the momentum the optimizer, is tested without those.
    """
    blocks = [block for other, block in columns.items() if other != name]
    larger = _Fit.of([*blocks, columns[name]], values)
    if _Fit.of(blocks, values).rank == larger.rank:
        blocks = [block for block in blocks if not _tells(block, columns[name])]
        larger = _Fit.of([*blocks, columns[name]], values)
    return _f_test(_Fit.of(blocks, values), larger)


def _tells(block: Floats, other: Floats) -> bool:
    """Return whether the values of one dimension, as columns, determine those of another."""
    return bool(np.linalg.matrix_rank(np.hstack([block, other])) == block.shape[1])


@dataclass(frozen=True)
class _Fit:
    """A least-squares fit: the sum of squares that it leaves, its rank, and the number of values."""

    left: float
    rank: int
    n: int

    @classmethod
    def of(cls, blocks: Sequence[Floats], values: Floats) -> _Fit:
        matrix = np.hstack([np.ones((len(values), 1)), *blocks])
        coefficients, _, rank, _ = np.linalg.lstsq(matrix, values, rcond=None)
        return cls(float(((values - matrix @ coefficients) ** 2).sum()), int(rank), len(values))


def _f_test(small: _Fit, large: _Fit) -> float:
    """Return the p value of what `large` explains beyond `small`; NaN if there is nothing to test with."""
    more, free = large.rank - small.rank, large.n - large.rank
    if more < 1 or free < 1:
        return math.nan
    if large.left <= 1e-12 * max(small.left, 1e-300):
        return 0.0
    return float(fdtrc(more, free, max(small.left - large.left, 0.0) / more / (large.left / free)))


def _epsilon(small: _Fit, large: _Fit, total: float) -> float:
    more, free = large.rank - small.rank, large.n - large.rank
    if more < 1 or free < 1:
        return math.nan
    return max(0.0, (small.left - large.left - more * large.left / free) / total)


def _products(a: Floats, b: Floats) -> Floats:
    """Return a column for each pair of values, [N, values of a * values of b]."""
    return np.asarray((a[:, :, None] * b[:, None, :]).reshape(len(a), -1))


def _corrected(p: Sequence[float]) -> list[float]:
    known = iter(holm([value for value in p if not math.isnan(value)]))
    return [math.nan if math.isnan(value) else next(known) for value in p]
