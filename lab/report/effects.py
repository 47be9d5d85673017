"""The effect of each dimension: its values compared, each averaged over the same values of all other dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lab.report.repeats import compared, is_averaged
from lab.report.statistics import summaries

__all__ = ["effects", "grouped", "not_same_cells"]

_PARTS = 4  # that a range is divided into
_MOST_NAMED = 3  # dimensions; more are counted
_COLUMNS = (
    *("dimension", "value", "mean", "ci95_low", "ci95_high", "n", "left_out", "best", "worst"),
    "same_cells",
)


def effects(
    frame: pd.DataFrame, varied: Sequence[str], metric: str | None = None, *, descending: bool | None = None
) -> pd.DataFrame:
    """Return the marginal mean of every value of every dimension, the best value of a dimension first.

    The values of a dimension are averaged over the combinations of all others, seeds and folds too, that each of them
    has: else one that was not tried with the best learning rate, or failed there, would look worse than it is. If that
    leaves less than half of the trials, as in a search, all of them count, and a mean also depends on what it is over.

    The interval is that of a mean over trials that also differ in the other dimensions. It is wide if those matter:
    two values may differ in every pairing although their intervals overlap.

    When a sampler chooses values from a range, hardly any occurs twice, so they are grouped into parts of the range
    with about the same number of trials each.

    Args:
        frame: a row for each trial, as `leaderboard` returns with `repeats="each"`.
        varied: the dimensions to compare. Seeds and folds are repeats, compared only if nothing else varies.
        metric: column to average; the one that `frame` is ranked by if None.
        descending: whether its highest value is the best; as in `frame` if None.

    Returns:
        Columns dimension, value (text, `0.001 to 0.02` for a part of a range; NA for trials without the dimension),
        mean, ci95_low and ci95_high (the ends of its 95 % interval, as in `summaries`), n, left_out (the number of
        trials without a value, of those that diverged, unless all did, and of those in combinations that another value
        lacks), best, worst, and same_cells (whether the dimension's values are compared over the same combinations).
    """
    metric = metric or frame.attrs.get("metric", "best_value")
    descending = frame.attrs.get("descending", True) if descending is None else descending
    dimensions = compared(varied) or list(varied)
    tables = [_effect(frame, name, metric, descending) for name in dimensions if not frame.empty]
    if not tables:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _effect(frame: pd.DataFrame, dimension: str, metric: str, descending: bool) -> pd.DataFrame:
    values = grouped(frame, dimension)
    groups = values.groupby(values, dropna=False, sort=False).ngroup()
    of = frame.attrs.get("monitor", "") if metric == "best_value" else metric
    trusted = frame[metric].astype("float64").where(is_averaged(frame, groups))
    trusted = trusted.where(trusted.map(math.isfinite))
    # if alone, a value's trials are one cell's repeats
    alone = compared(frame.attrs.get("varied", ())) == [dimension]
    folds = frame.get("fold") if alone else None
    shared = _shared(frame, dimension, groups[trusted.notna() & values.notna()])
    same_cells = alone or 2 * shared.sum() >= len(shared)
    if same_cells and not alone:
        trusted = trusted.where(shared.reindex(frame.index, fill_value=False) | values.isna())
    table = summaries(trusted, groups, descending=descending, metric=of, folds=folds)
    table["left_out"] = groups.value_counts().sort_index() - table["n"]
    table["dimension"] = dimension
    table["same_cells"] = same_cells
    table["value"] = values.groupby(groups).first()
    return table.sort_values("mean", ascending=not descending, kind="stable")[list(_COLUMNS)]


def _shared(frame: pd.DataFrame, dimension: str, groups: pd.Series[int]) -> pd.Series[bool]:
    """Return which of the trials in `groups`, by value, have a combination of the other dimensions that each value has.

    A dimension that a value never has, as `momentum` with adam, follows from the value, so it is part of none.
    """
    trials = frame.loc[groups.index]
    names = [name for name in frame.attrs.get("varied", ()) if name != dimension and name in frame]
    others = [name for name in names if trials[name].notna().groupby(groups).any().all()]
    ranges = frame.attrs.get("ranges", ())  # of which hardly a value occurs twice
    if not others or any(name in ranges for name in others):
        return pd.Series(not others, index=groups.index)
    combinations = trials.groupby(others, dropna=False, sort=False).ngroup()
    return groups.groupby(combinations).transform("nunique") == groups.nunique()


def not_same_cells(dimensions: Sequence[str]) -> str:
    """Return a remark on `dimensions` whose values are not compared over the same combinations, if there are any."""
    if not dimensions:
        return ""
    which = ", ".join(dimensions) if len(dimensions) <= _MOST_NAMED else f"{len(dimensions)} dimensions"
    return f"{which}: not the same cells, so the means also depend on what else varies in them."


def grouped(frame: pd.DataFrame, dimension: str) -> pd.Series[Any]:
    """Return the values of a dimension to compare: as they are, or the part of its range that each is in."""
    values = frame[dimension]
    return _parts(values) if dimension in frame.attrs.get("ranges", ()) else values


def _parts(values: pd.Series[str]) -> pd.Series[Any]:
    """Return the part of the range that each number in `values` is in, in words.

    If there are only a few numbers, or most occur several times, they are kept as they are.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    there = int(numbers.notna().sum())
    if numbers.nunique() <= _PARTS or 2 * numbers.nunique() <= there:
        return values
    parts = pd.qcut(numbers, min(_PARTS, there // 2), labels=False, duplicates="drop")
    ends = numbers.groupby(parts).agg(["min", "max"])
    words = {part: f"{low:.3g} to {high:.3g}" for part, low, high in ends.itertuples()}
    return parts.map(words)
