"""From trials to cells: the repeats of a cell, which differ only in the seed or the fold, become one row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from lab.report.statistics import SPREAD, summaries
from lab.report.trials import COUNTS, MEANS

__all__ = [
    "REPEATING",
    "averaged_over",
    "by_cell",
    "compared",
    "has_repeats",
    "is_averaged",
    "outcome_counts",
    "repeat_names",
]

#: The dimensions that repeats differ in.
REPEATING: Final = ("seed", "fold")
_NAMED = re.compile(rf"(^|\s+)({'|'.join(REPEATING)})=\d+(?!\S)")


def compared(varied: Iterable[str]) -> list[str]:
    """Return the dimensions among `varied` that cells differ in: those that trials are not averaged over."""
    return [name for name in varied if name not in REPEATING]


def averaged_over(varied: Iterable[str]) -> list[str]:
    """Return the dimensions among `varied` that the repeats of a cell differ in."""
    return [name for name in varied if name in REPEATING]


def has_repeats(varied: Sequence[str]) -> bool:
    """Return whether a study that varies `varied` repeats its cells: under several seeds, or on several folds.

    Several seeds alone are compared with each other. Several folds alone are not: only their mean is a result.
    """
    return "fold" in varied or ("seed" in varied and len(varied) > 1)


def by_cell(
    trials: pd.DataFrame,
    varied: Sequence[str],
    *,
    of: str = "best_value",
    descending: bool = True,
    monitor: str = "",
) -> pd.DataFrame:
    """Return a row for each cell of `trials`, unranked.

    Args:
        trials: a row for each run, ranked: the first of a cell is its best.
        varied: the columns of the parameters that the study varies.
        of: the metric that n and the columns of its spread are of.
        descending: whether the highest value is the best.
        monitor: the metric that best_value is a value of.

    Returns:
        The columns of `leaderboard` for cells, except rank and pareto.
    """
    dimensions = compared(varied)
    numbers = _numbered(trials, dimensions)
    averaged = is_averaged(trials, numbers)
    metrics = trials.select_dtypes("float64").where(averaged)
    means = _summarized(metrics, numbers, trials.get("fold"), descending, monitor)
    medians = {name: _median(trials[name].where(averaged), numbers) for name in COUNTS}
    is_first = ~numbers.duplicated()
    first = trials[is_first].set_axis(numbers[is_first])
    outcomes = trials["outcome"].groupby(numbers).agg(_outcomes)
    return _in_columns(first, dimensions, means, medians, outcomes, of).reset_index(drop=True)


def _summarized(
    metrics: pd.DataFrame,
    cells: pd.Series[int],
    folds: pd.Series[str] | None,
    descending: bool,
    monitor: str,
) -> dict[str, pd.DataFrame]:
    """Return the `summaries` of every metric by its name."""
    return {
        name: summaries(
            metrics[name],
            cells,
            descending=descending,
            metric=monitor if name == "best_value" else name,
            folds=folds,
        )
        for name in map(str, metrics)
    }


def _in_columns(
    first: pd.DataFrame,
    dimensions: Sequence[str],
    means: Mapping[str, pd.DataFrame],
    medians: Mapping[str, pd.Series[int]],
    outcomes: pd.Series[str],
    of: str,
) -> pd.DataFrame:
    """Return the columns of cells in their order; varied `epochs` hide the number of them."""
    usual = (*MEANS, "accuracy_per_million_params")
    columns: dict[str, pd.Series[Any]] = {
        "name": first["name"].map(_without_repeat),
        **{name: first[name] for name in dimensions},
        "best_value": means["best_value"]["mean"],
        **{name: means[of][name] for name in SPREAD},
        "test_accuracy": means["test_accuracy"]["mean"],
        **{f"test_{name}": means["test_accuracy"][name] for name in SPREAD},
        **{name: found["mean"] for name, found in means.items() if name not in usual},
        **{name: found for name, found in medians.items() if name not in dimensions},
        "seconds": means["seconds"]["mean"],
        "accuracy_per_million_params": means["accuracy_per_million_params"]["mean"],
        "outcome": outcomes,
        "run_id": first["run_id"],
    }
    return pd.DataFrame(columns)


def is_averaged(trials: pd.DataFrame, groups: pd.Series[int]) -> pd.Series[bool]:
    """Return which `trials` are part of the mean of their group.

    A trial that diverged is part of it only if the whole group diverged: its best value says nothing about the others.
    """
    diverged = trials["outcome"] == "diverged"
    return ~diverged | diverged.groupby(groups).transform("all")


def repeat_names(runs: pd.DataFrame) -> pd.Series[str]:
    """Return what tells each run from the other repeats of its cell: `seed=0`, or `fold=1` if there are several folds.

    What repeats a fold under another seed has the same name: it is of the same images, so it says nothing about others.

    Args:
        runs: from `Tracker.runs`.
    """
    by = "fold" if runs.get("params.fold", pd.Series(dtype="object")).nunique() > 1 else "seed"
    values = runs.get(f"params.{by}", pd.Series(None, index=runs.index, dtype="object"))
    return (f"{by}=" + values.astype("str")).where(values.notna(), "")


def outcome_counts(outcomes: pd.Series[str]) -> dict[str, int]:
    """Return the number of trials with each outcome, the most frequent first; those without one are unfinished."""
    counts = Counter(outcomes.fillna("unfinished"))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _without_repeat(name: str) -> str:
    """Return the name of a trial without its seed and its fold; empty if nothing else varies."""
    return _NAMED.sub("", name).strip()


def _numbered(trials: pd.DataFrame, dimensions: list[str]) -> pd.Series[int]:
    """Return the number of each trial's cell, in order of appearance."""
    if not dimensions:
        return pd.Series(0, index=trials.index)
    return trials.groupby(dimensions, dropna=False, sort=False).ngroup()


def _median(values: pd.Series[int], groups: pd.Series[int]) -> pd.Series[int]:
    return values.astype("float64").groupby(groups).median().round().astype("Int64")


def _outcomes(outcomes: pd.Series[str]) -> str:
    """Return the outcome that all repeats of a cell share, or the number with each outcome."""
    counts = outcome_counts(outcomes)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
