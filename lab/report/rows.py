"""The runs behind the results of a grid as rows, so that a page of results can be checked without the runs."""

from __future__ import annotations

from typing import Final

import pandas as pd

from lab.report.repeats import REPEATING
from lab.report.results import GridResults
from lab.report.trials import chosen_metrics, dimension_columns, trial_frame
from lab.tracking.tags import Tag

__all__ = ["METRICS", "raw_rows"]

#: What is measured of each run, in addition to what its `metrics` add.
METRICS: Final = ("test_accuracy", "best_value", "best_epoch", "epochs", "params", "seconds")

_COMMIT = 12  # digits that are shown


def raw_rows(results: GridResults) -> pd.DataFrame:
    """Return a row for each run, by cell and seed; it has nothing that tells of the machine.

    Returns:
        Columns cell (the hash), one for each dimension (text), seed, test_accuracy, test_NAME for each of the runs'
        `metrics`, best_value, best_epoch, epochs, params, seconds, outcome, commit and started (UTC).
    """
    runs = results.runs
    varied = [dimension.name for dimension in results.grid.space.dimensions]
    names = [*(name for name in varied if name not in REPEATING), *(set(varied) & {"fold"}), "seed"]
    varying = dimension_columns(runs, names, "test_accuracy").values()
    columns = dict.fromkeys((*varying, "test_accuracy", *chosen_metrics(runs), *METRICS, "outcome"))
    rows = trial_frame(runs, names, "test_accuracy")[[*columns]]
    rows.insert(0, "cell", _tag(runs, Tag.CELL))
    commits = _tag(runs, Tag.COMMIT).str[:_COMMIT]
    return rows.assign(commit=commits, started=runs["start_time"].dt.strftime("%Y-%m-%dT%H:%M:%S"))


def _tag(runs: pd.DataFrame, tag: str) -> pd.Series[str]:
    return runs.get(f"tags.{tag}", pd.Series(None, index=runs.index, dtype="str"))
