"""The runs behind the results of a grid as rows, so that a page of results can be checked without the runs."""

from __future__ import annotations

import pandas as pd

from lab.report.repeats import REPEATING
from lab.report.results import GridResults
from lab.report.trials import chosen_metrics, trial_frame
from lab.tracking.tags import Tag

__all__ = ["raw_rows"]

_COMMIT = 12  # digits that are shown


def raw_rows(results: GridResults) -> pd.DataFrame:
    """Return a row for each run, by cell and seed; it has nothing that tells of the machine.

    Returns:
        Columns cell (the hash), one for each dimension (text), seed, test_accuracy, test_NAME for each of the runs'
        `metrics`, best_value, best_epoch, epochs, params, seconds, outcome, commit and started (UTC).
    """
    runs = results.runs
    varied = [dimension.name for dimension in results.grid.space.dimensions]
    trials = trial_frame(
        runs, [*varied, *(name for name in REPEATING if f"params.{name}" in runs)], "test_accuracy"
    )
    first = [name for name in varied if name not in REPEATING]
    repeats = [name for name in REPEATING if name in trials and (name == "seed" or name in varied)]
    measured = (
        "test_accuracy",
        *chosen_metrics(runs),
        "best_value",
        "best_epoch",
        "epochs",
        "params",
        "seconds",
    )
    rows = trials[[*dict.fromkeys((*first, *repeats, *measured, "outcome"))]]
    rows.insert(0, "cell", _tag(runs, Tag.CELL))
    commits = _tag(runs, Tag.COMMIT).str[:_COMMIT]
    return rows.assign(commit=commits, started=runs["start_time"].dt.strftime("%Y-%m-%dT%H:%M:%S"))


def _tag(runs: pd.DataFrame, tag: str) -> pd.Series[str]:
    return runs.get(f"tags.{tag}", pd.Series(None, index=runs.index, dtype="str"))
