"""The trials of a study from best to worst, read from the tracker alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pandas as pd

from lab.errors import TrackingError
from lab.tracking import Run, Tracker

__all__ = ["leaderboard", "publish_leaderboard"]

_FLOATS = ("best_value", "test_accuracy")
_COUNTS = ("best_epoch", "epochs", "params")


def leaderboard(
    tracker: Tracker, experiment: str, *, study: str, metric: str = "best_value", top: int | None = None
) -> pd.DataFrame:
    """Return the trials of `study`, the best first.

    Trials without a finite value come last; of equals the one with fewer parameters is first, then the name
    decides. The highest accuracy and the lowest loss are the best; of any other `metric`, the study's
    direction says which end is.

    Args:
        tracker: where the runs are.
        experiment: id of the experiment.
        study: name of the study, as in the tag `lab.study`.
        metric: metric to rank by; its column is there even if it is none of those below.
        top: most rows to return.

    Returns:
        Columns rank (from 1), name, a column for each parameter that the study varies (text), best_value,
        test_accuracy, best_epoch, epochs, params, seconds, outcome and run_id. Missing values are NA.
        `attrs["monitor"]` says what best_value is a value of.

    Raises:
        TrackingError: the experiment has no such study, besides the store's own failures.
    """
    parent = _parent(tracker, experiment, study)
    varied: list[str] = json.loads(parent.get("tags.lab.varied") or "[]")
    descending = _rises(metric, parent.get("tags.lab.direction") != "minimize")
    # ties and what never finished are settled here, so the store may not cut the list by the metric alone
    runs = tracker.runs(experiment, tags={"lab.study": study, "lab.kind": "trial"})
    frame = _columns(runs, varied, metric)
    frame = _ranked(frame, metric, descending).head(top if top is not None else len(frame))
    frame.insert(0, "rank", range(1, len(frame) + 1))
    frame.attrs["monitor"] = parent.get("tags.lab.monitor") or "val_accuracy"
    return frame


def publish_leaderboard(run: Run, frame: pd.DataFrame) -> None:
    """Store `frame` on the study's parent `run`: as a table for the MLflow UI, and as CSV."""
    run.log_table(frame, "leaderboard.json")
    run.log_text(frame.to_csv(index=False), "leaderboard.csv")


def _rises(metric: str, maximized: bool) -> bool:
    """Return whether higher values of `metric` are better."""
    if metric.endswith(("loss", "accuracy")):
        return metric.endswith("accuracy")
    return maximized


def _parent(tracker: Tracker, experiment: str, study: str) -> pd.Series[str]:
    found = tracker.runs(experiment, tags={"lab.study": study, "lab.kind": "study"}, limit=1)
    if found.empty:
        raise TrackingError(
            f"There is no study '{study}' in the experiment {experiment} at {tracker.uri}. "
            "`lab status` lists the studies that there are."
        )
    return found.iloc[0]


def _columns(runs: pd.DataFrame, varied: Sequence[str], metric: str) -> pd.DataFrame:
    """Return the leaderboard's columns of `runs`, in their order; what no run has is NA."""
    names = dict.fromkeys((*varied, *_FLOATS, metric, *_COUNTS, "seconds"))
    frame = pd.DataFrame({"name": runs["name"]})
    for name in names:
        if name in varied:
            frame[name] = _column(runs, f"params.{name}")
            continue
        values = pd.to_numeric(_column(runs, f"metrics.{name}")).astype("float64")
        frame[name] = values.round().astype("Int64") if name in _COUNTS else values
    frame["outcome"] = _column(runs, "tags.lab.outcome")
    frame["run_id"] = runs["run_id"]
    return frame


def _column(runs: pd.DataFrame, name: str) -> pd.Series[str]:
    return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype="object")


def _ranked(frame: pd.DataFrame, metric: str, descending: bool) -> pd.DataFrame:
    values = frame[metric].astype("float64")
    finite = values.map(math.isfinite)
    keys = pd.DataFrame(
        {
            "worst": ~finite | (frame["outcome"] == "diverged"),
            "value": (-values if descending else values).where(finite),
            "params": frame["params"].astype("float64"),
            "name": frame["name"],
        }
    )
    order = keys.sort_values(["worst", "value", "params", "name"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)
