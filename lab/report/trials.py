"""The runs of a study as rows with typed columns, and their order from best to worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lab.config import as_text, logged_name
from lab.report.statistics import pareto_front
from lab.tracking.tags import Tag
from lab.training import rank

__all__ = ["COUNTS", "MEANS", "chosen_metrics", "ranked", "trial_frame"]

#: Columns of which the repeats of a cell are averaged, and those of which the median is taken.
MEANS = ("best_value", "test_accuracy", "seconds")
COUNTS = ("best_epoch", "epochs", "params")


def trial_frame(runs: pd.DataFrame, varied: Sequence[str], metric: str) -> pd.DataFrame:
    """Return a row for each of `runs`, unranked; missing values are NA.

    Args:
        runs: from `Tracker.runs`.
        varied: the parameters that the study varies.
        metric: a metric to include in addition to the usual ones.

    Returns:
        The columns of `leaderboard`, except rank and pareto.
    """
    tested = chosen_metrics(runs)
    names = dict.fromkeys((*varied, "best_value", "test_accuracy", *tested, metric, *COUNTS, "seconds"))
    names.pop("accuracy_per_million_params", None)
    columns: dict[str, pd.Series[Any]] = {"name": runs["name"]}
    for name in names:
        columns[name] = _param(runs, name) if name in varied else _metric(runs, name)
    # computed here, so that runs from before it became a metric have it too
    size = columns["params"].astype("float64") / 1e6
    columns["accuracy_per_million_params"] = columns["test_accuracy"].astype("float64") / size
    columns["outcome"] = _column(runs, f"tags.{Tag.OUTCOME}")
    columns["run_id"] = runs["run_id"]
    return pd.DataFrame(columns)


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


def _param(runs: pd.DataFrame, name: str) -> pd.Series[str]:
    return _column(runs, f"params.{name}")


def _metric(runs: pd.DataFrame, name: str) -> pd.Series[float] | pd.Series[int]:
    values = pd.to_numeric(_column(runs, f"metrics.{name}")).astype("float64")
    return values.round().astype("Int64") if name in COUNTS else values


def _column(runs: pd.DataFrame, name: str) -> pd.Series[str]:
    return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype="object")
