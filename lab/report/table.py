"""The trials of a study and their curves as flat tables, for programs that know nothing of lab."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import pandas as pd

from lab.config import takes_text
from lab.tracking import Tracker
from lab.tracking.tags import Tag

__all__ = ["curve_table", "trial_table", "without_formulas"]

_TEXTS: Final = {
    "cell": Tag.CELL,
    "outcome": Tag.OUTCOME,
    "error": Tag.ERROR,
}  # also where they look like numbers
_GROUPS: Final = ("params.", "metrics.")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")  # how texts begin that spreadsheets compute
_CODE: Final = re.compile(r"[+-]?0\d")  # how texts of digits begin that are no numbers
_SYSTEM: Final = "metrics.system/"  # the machine's load, which has points of its own


def trial_table(board: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each trial of a leaderboard, in its order, with all that its run has.

    Args:
        board: from `leaderboard`, with a row for each trial.
        runs: from `Tracker.runs`, with those of the board.

    Returns:
        Columns rank, run_id, name, trial (its number), cell (its hash), outcome, error, status, start_time and
        end_time (UTC), then `params.NAME` for each setting (numbers where all values are, unless it takes texts only,
        as a digest) and `metrics.NAME` for the last value of each metric.
    """
    found = board[["rank", "run_id"]].merge(runs, on="run_id", how="left")
    nothing = pd.Series(None, index=found.index, dtype="object")
    columns: dict[str, pd.Series[Any]] = {name: found[name] for name in ("rank", "run_id", "name")}
    columns["trial"] = _typed(found.get(f"tags.{Tag.TRIAL}", nothing))
    columns |= {name: found.get(f"tags.{tag}", nothing) for name, tag in _TEXTS.items()}
    columns |= {name: found[name] for name in ("status", "start_time", "end_time")}
    for name in map(str, found):
        if name.startswith(_GROUPS):
            is_text = takes_text(name.removeprefix("params."))
            columns[name] = found[name] if is_text else _typed(found[name])
    return pd.DataFrame(columns)


def curve_table(tracker: Tracker, trials: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each point of the curves of `trials`, from `trial_table`.

    What has a single value without a step, such as the test accuracy, is no curve, and the machine's load is left out.

    Returns:
        Columns run_id, name, trial, metric, step (the epoch from 1, or the iteration) and value.
    """
    names = [
        name.removeprefix("metrics.")
        for name in map(str, trials)
        if name.startswith("metrics.") and not name.startswith(_SYSTEM)
    ]
    points = tracker.curves(list(trials["run_id"]), names)
    stepped = points["metric"].isin(points.loc[points["step"] != 0, "metric"].unique())
    return trials[["run_id", "name", "trial"]].merge(points[stepped], on="run_id")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table to be written as CSV: an apostrophe stands before each text that a spreadsheet would compute.

    Such a text begins with one of `= + - @`, a tab or a line break, and is no number
    (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    texts = frame.select_dtypes(["object", "string"])
    return frame.assign(**{str(name): texts[name].map(_harmless) for name in texts})


def _harmless(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _typed(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return texts as numbers if all of them are, and none loses a digit."""
    numbers = pd.to_numeric(column, errors="coerce")
    known = column.notna()
    are_numbers = known.any() and numbers.notna().equals(known)
    return numbers if are_numbers and all(map(_is_kept, column[known], numbers[known])) else column


def _is_kept(text: Any, number: float) -> bool:
    """Return whether a number is all that its text says."""
    if not isinstance(text, str):
        return True
    try:
        return not _CODE.match(text) and Decimal(text) == Decimal(str(number))
    except InvalidOperation:
        return False
