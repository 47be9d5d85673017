"""Cells out of trials: the repeats of a cell, which differ in nothing but the seed, as one row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lab.report.statistics import summaries
from lab.report.trials import COUNTS, MEANS

__all__ = ["by_cell", "counted", "has_repeats", "outcome_counts"]

_SEED = re.compile(r"\s*\bseed=\d+$")  # the last dimension, and so the end of a name


def has_repeats(varied: Sequence[str]) -> bool:
    """Return whether a study that varies `varied` repeats its cells under several seeds."""
    return "seed" in varied and len(varied) > 1


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
        varied: the parameters that the study varies.
        of: what ci95, n and best are of.
        descending: whether the highest value is the best.
        monitor: what best_value is a value of.

    Returns:
        The columns of `leaderboard` for cells, except rank and pareto.
    """
    dimensions = [name for name in varied if name != "seed"]
    cells = _numbered(trials, dimensions)
    first = trials.assign(cell=cells).drop_duplicates("cell").set_index("cell")
    trusted = counted(trials, cells)
    found = {
        name: summaries(
            trials[name].where(trusted),
            cells,
            descending=descending,
            metric=monitor if name == "best_value" else name,
        )
        for name in map(str, trials.select_dtypes("float64"))
    }
    columns: dict[str, pd.Series[Any]] = {
        "name": first["name"].map(lambda name: _SEED.sub("", name)),
        **{name: first[name] for name in dimensions},
        "best_value": found["best_value"]["mean"],
        **{name: found[of][name] for name in ("ci95", "n", "best") if name not in dimensions},
        "test_accuracy": found["test_accuracy"]["mean"],
        "test_ci95": found["test_accuracy"]["ci95"],
        **{
            name: found[name]["mean"] for name in found if name not in (*MEANS, "accuracy_per_million_params")
        },
        **{name: _middle(trials[name].where(trusted), cells) for name in COUNTS if name not in dimensions},
        "seconds": found["seconds"]["mean"],
        "accuracy_per_million_params": found["accuracy_per_million_params"]["mean"],
        "outcome": trials["outcome"].groupby(cells).agg(_outcomes),
        "run_id": first["run_id"],
    }
    return pd.DataFrame(columns).reset_index(drop=True)


def counted(trials: pd.DataFrame, groups: pd.Series[int]) -> pd.Series[bool]:
    """Return which `trials` count in the mean of their group.

    What diverged counts only where all of its group did: how it got on before says nothing of the others.
    """
    diverged = trials["outcome"] == "diverged"
    return ~diverged | diverged.groupby(groups).transform("all")


def outcome_counts(outcomes: pd.Series[str]) -> dict[str, int]:
    """Return how many trials had each outcome, the most frequent first; those without one are unfinished."""
    counts = Counter(outcomes.fillna("unfinished"))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _numbered(trials: pd.DataFrame, dimensions: list[str]) -> pd.Series[int]:
    """Return the number of each trial's cell, in the order in which the cells appear."""
    if not dimensions:
        return pd.Series(0, index=trials.index)
    return trials.groupby(dimensions, dropna=False, sort=False).ngroup()


def _middle(values: pd.Series[int], groups: pd.Series[int]) -> pd.Series[int]:
    return values.astype("float64").groupby(groups).median().round().astype("Int64")


def _outcomes(outcomes: pd.Series[str]) -> str:
    """Return the outcome of a cell's repeats: the common one, or how many had each."""
    counts = outcome_counts(outcomes)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
