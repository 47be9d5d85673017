"""The runs of a study as rows with typed columns, and their order from best to worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lab.config import as_text, logged_name
from lab.report.statistics import SPREAD, pareto_front
from lab.tracking.tags import Tag
from lab.training import rank

__all__ = ["COUNTS", "MEANS", "chosen_metrics", "dimension_columns", "ranked", "setting_of", "trial_frame"]

#: Columns of which the repeats of a cell are averaged, and those of which the median is taken.
MEANS = ("best_value", "test_accuracy", "seconds")
COUNTS = ("best_epoch", "epochs", "params")

# of a leaderboard, whatever varies; a varied `epochs` says more than the number of epochs, and takes its place
_TAKEN = frozenset(
    {
        *("rank", "name", "best_epoch", "params", "pareto", "outcome", "run_id"),
        *("accuracy_per_million_params", *MEANS),
        *(*SPREAD, *(f"test_{name}" for name in SPREAD)),
        *("mult_adds", "spread", "cell", "commit", "started"),  # which the page and `raw_rows` add
    }
)
_PARAM = "params."  # as in `Tracker.runs`


def trial_frame(runs: pd.DataFrame, varied: Sequence[str], metric: str) -> pd.DataFrame:
    """Return a row for each of `runs`, unranked; missing values are NA.

    Args:
        runs: from `Tracker.runs`.
        varied: the parameters that the study varies.
        metric: a metric to include in addition to the usual ones.

    Returns:
        The columns of `leaderboard`, except rank and pareto; those of `varied` are named by `dimension_columns`.
    """
    named = dimension_columns(runs, varied, metric)
    columns: dict[str, pd.Series[Any]] = {"name": runs["name"]}
    columns |= {column: _column(runs, _PARAM + name) for name, column in named.items()}
    for name in ("best_value", "test_accuracy", *chosen_metrics(runs), metric, *COUNTS, "seconds"):
        if name not in columns and name != "accuracy_per_million_params":
            columns[name] = _metric(runs, name)
    # computed here, so that runs from before it became a metric have it too
    size = columns["params"].astype("float64") / 1e6
    columns["accuracy_per_million_params"] = columns["test_accuracy"].astype("float64") / size
    columns["outcome"] = _column(runs, f"tags.{Tag.OUTCOME}")
    columns["run_id"] = runs["run_id"]
    return pd.DataFrame(columns)


def dimension_columns(runs: pd.DataFrame, varied: Sequence[str], metric: str) -> dict[str, str]:
    """Return the column of each of `varied`: its own name, or `params.NAME` where something else is called that.

    The arguments are those of `trial_frame`.
    """
    taken = {*_TAKEN, *chosen_metrics(runs), metric}
    return {name: _PARAM + name if name in taken or name.startswith(_PARAM) else name for name in varied}


def setting_of(column: str) -> str:
    """Return the dimension that has this column: the inverse of `dimension_columns`."""
    return column.removeprefix(_PARAM)


def chosen_metrics(runs: pd.DataFrame) -> list[str]:
    """Return what `runs` log on the test split because of their setting `metrics`: `test_auroc`."""
    texts = _column(runs, "params.metrics").dropna().unique()
    names = {name for text in texts for name in str(text).split(",") if name != as_text(())}
    return sorted(f"test_{logged_name(name)}" for name in names)


def ranked(frame: pd.DataFrame, metric: str, descending: bool) -> pd.DataFrame:
    """Return `frame` from best to worst by `metric`, with the columns rank and pareto.

    The order is that of `lab.training.rank`; if all else is equal, the earlier row comes first.
    """
    columns = (
        frame["outcome"].fillna(""),
        frame[metric].astype("float64"),
        frame["params"].astype("float64"),
    )
    places = [
        rank(outcome, value, params, row, maximize=descending)
        for row, (outcome, value, params) in enumerate(zip(*columns, strict=True))
    ]
    order = [row for *_, row in sorted(places)]
    diverged = frame["outcome"] == "diverged"
    accuracy = frame["test_accuracy"].astype("float64").where(~diverged)
    front = pareto_front(accuracy, frame["params"].astype("float64"))
    frame = frame.drop(columns=["rank", "pareto"], errors="ignore")
    frame.insert(list(frame.columns).index("outcome"), "pareto", front)
    frame = frame.iloc[order].reset_index(drop=True)
    frame.insert(0, "rank", range(1, len(frame) + 1))
    return frame


def _metric(runs: pd.DataFrame, name: str) -> pd.Series[float] | pd.Series[int]:
    values = pd.to_numeric(_column(runs, f"metrics.{name}")).astype("float64")
    return values.round().astype("Int64") if name in COUNTS else values


def _column(runs: pd.DataFrame, name: str) -> pd.Series[str]:
    return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype="object")
