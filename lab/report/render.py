"""A leaderboard for a terminal."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["duration", "render"]

_STYLES = {
    "completed": "green",
    "early_stopped": "green",
    "not_converged": "yellow",
    "diverged": "red",
    "failed": "red",
    "pruned": "yellow",
    "killed": "yellow",
}
_HEADINGS = {
    "rank": "",
    "best_value": "best",
    "test_accuracy": "test",
    "best_epoch": "epoch",
    "epochs": "of",
    "seconds": "time",
}


def render(frame: pd.DataFrame, *, title: str | None = None, monitor: str = "val_accuracy") -> Table:
    """Return `frame`, as `leaderboard` gives it, as a table to print.

    Args:
        frame: the leaderboard.
        title: above the table.
        monitor: what `best_value` is a value of; accuracies are shown in percent.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold")
    varied = list(frame.columns).index("best_value") - 2  # they say all that the name says
    hidden = {"run_id", "name"} if varied else {"run_id"}
    columns = [str(name) for name in frame.columns if name not in hidden]
    for name in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(_HEADINGS.get(name, name), justify="right" if numeric else "left", no_wrap=True)
    for _, row in frame.iterrows():
        table.add_row(
            *(_cell(name, row[name], monitor) for name in columns), style="bold" if row["rank"] == 1 else None
        )
    return table


def duration(seconds: float) -> str:
    """Return a time in seconds as people say it: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _cell(name: str, value: Any, monitor: str) -> Text:
    """Return one cell; as `Text`, so that a name in brackets is not taken for rich's markup."""
    if pd.isna(value):
        return Text("–", style="dim")
    if name == "outcome":
        return Text(str(value), style=_STYLES.get(value, ""))
    return Text(_format(monitor if name == "best_value" else name, value))


def _format(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name == "seconds":
        return duration(value)
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return f"{value:,}"
