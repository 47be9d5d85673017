"""Leaderboards and effects as tables for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from lab.config import in_percent
from lab.report.durations import duration
from lab.report.effects import not_same_cells

__all__ = ["formatted", "render", "render_effects", "spread"]

_LONG_NUMBER = re.compile(r"-?\d+\.\d{5,}(e[+-]\d+)?")
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
    "ci95_low": "95 % interval",
    "test_ci95_low": "95 % interval",
    "accuracy_per_million_params": "test/M",
    "pareto": "front",
}
# of cells, whose best_value is a mean
_CELL_HEADINGS = {"best_value": "mean", "best": "best"}
# columns to leave out if the terminal is narrow, the least important first
_SPARE = (
    *("accuracy_per_million_params", "pareto", "epochs", "test_ci95_low", "best", "seconds", "best_epoch"),
    *("outcome", "params", "ci95_low", "n"),
)
# shown with the lower end of the interval
_OF_INTERVALS = frozenset({"ci95_high", "worst", "test_ci95_high", "test_n", "test_best", "test_worst"})


@dataclass(frozen=True)
class _Leaderboard:
    """A leaderboard that drops its least important columns if the terminal is narrow."""

    frame: pd.DataFrame
    title: str | None
    monitor: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        ranked_by = str(self.frame.attrs.get("metric", ""))
        layouts = [self._table(shown) for shown in _layouts(list(map(str, self.frame.columns)), ranked_by)]
        unbound = options.update(width=10_000, max_width=10_000)
        fitting = (t for t in layouts if console.measure(t, options=unbound).maximum <= options.max_width)
        yield next(fitting, layouts[-1])

    def _table(self, columns: list[str]) -> Table:
        table = Table(
            title=self.title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            header_style="bold",
        )
        headings = _HEADINGS | (_CELL_HEADINGS if "ci95_low" in self.frame else {})
        headings |= {
            name: name for name in _varied(list(map(str, self.frame.columns)))
        }  # `epochs` may be varied
        for name in columns:
            numeric = pd.api.types.is_numeric_dtype(self.frame[name])
            heading = Text(headings.get(name, name))
            table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
        for _, row in self.frame.iterrows():
            cells = (self._cell(name, row) for name in columns)
            table.add_row(*cells, style="bold" if row["rank"] == 1 else None)
        return table

    def _cell(self, name: str, row: pd.Series[Any]) -> Text:
        if name == "ci95_low":
            return Text(spread(self.monitor, row) or "–")
        if name == "test_ci95_low":
            return Text(spread("test_accuracy", row, "test_") or "–")
        return _cell(name, row[name], self.monitor)


def render(frame: pd.DataFrame, *, title: str | None = None, monitor: str | None = None) -> RenderableType:
    """Return a leaderboard as a table to print.

    If the console is too narrow for all columns, the least important ones are left out.

    Args:
        frame: from `leaderboard`.
        title: shown above the table.
        monitor: the metric that `best_value` is a value of, if `frame` does not tell; accuracies are shown in percent.
    """
    return _Leaderboard(frame, title, monitor or frame.attrs.get("monitor", "val_accuracy"))


def render_effects(frame: pd.DataFrame, *, metric: str, title: str | None = None) -> Table:
    """Return a table from `effects` as a table to print; `metric` is the metric that was averaged."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold"
    )
    for heading in ("dimension", "value", "mean", "95 % interval", "best", "n", "left out"):
        table.add_column(heading, justify="left" if heading in ("dimension", "value") else "right")
    above = None
    for row in frame.to_dict("records"):
        if above not in (None, row["dimension"]):
            table.add_section()
        name = "" if above == row["dimension"] else row["dimension"]
        mean, best = (_cell(metric, row[column], metric) for column in ("mean", "best"))
        counts = (Text(str(row["n"])), Text(str(row["left_out"] or "")))
        value, interval = _cell("value", row["value"], metric), Text(spread(metric, row) or "–")
        table.add_row(Text(name), value, mean, interval, best, *counts)
        above = row["dimension"]
    said = not_same_cells(list(frame.loc[~frame["same_cells"].astype(bool), "dimension"].unique()))
    table.caption, table.caption_justify = Text(said) if said else None, "left"
    return table


def _layouts(columns: list[str], ranked_by: str) -> Iterator[list[str]]:
    """Yield the columns to show, from the widest table to the narrowest."""
    varied = _varied(columns)
    known = (*_HEADINGS, *_OF_INTERVALS, ranked_by)
    chosen = [name for name in columns if name.startswith("test_") and name not in known]
    spare = [name for name in (*_SPARE, *chosen) if name in columns and name not in varied]
    # the varied parameters tell the same as the name, each in a column of its own
    for hidden in (["name"], varied) if varied else ([],):
        for dropped in range(len(spare) + 1):
            out = {"run_id", *_OF_INTERVALS, *hidden, *spare[:dropped]}
            yield [name for name in columns if name not in out]


def _varied(columns: list[str]) -> list[str]:
    return columns[columns.index("name") + 1 : columns.index("best_value")]


def _cell(name: str, value: Any, monitor: str) -> Text:
    """Return one cell of the table, as `Text`: rich would take a name in brackets for markup."""
    if pd.isna(value):
        return Text("–", style="dim")
    if name == "outcome":
        return Text(str(value), style=_STYLES.get(value, ""))
    if name == "pareto":
        return Text("*" if value else "")
    return Text(formatted(monitor if name in ("best_value", "best") else name, value))


def spread(metric: str, row: Mapping[Any, Any] | pd.Series[Any], prefix: str = "") -> str:
    """Return how far the values behind a mean are apart: `96.80% to 97.71%`, of two values `n=2: 96.90%, 97.80%`.

    Args:
        metric: that the mean is of.
        row: has the columns of `lab.report.statistics.SPREAD`.
        prefix: of these columns.

    Returns:
        The 95 % interval of the mean; empty if there is one value or none.
    """
    if row[f"{prefix}n"] == 2:
        values = sorted((row[f"{prefix}worst"], row[f"{prefix}best"]))
        return (
            "" if pd.isna(values).any() else f"n=2: {', '.join(formatted(metric, value) for value in values)}"
        )
    low, high = row[f"{prefix}ci95_low"], row[f"{prefix}ci95_high"]
    return "" if pd.isna(low) else f"{formatted(metric, low)} to {formatted(metric, high)}"


def formatted(name: str, value: Any) -> str:
    """Return a value of the column `name` in a readable form: accuracies in percent, times in units, few digits."""
    if isinstance(value, str):  # a sampler's 0.012046216586337108; the run keeps all digits
        return f"{float(value):.4g}" if _LONG_NUMBER.fullmatch(value) else value
    if name == "seconds":
        return duration(value)
    if in_percent(name, [value]):
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return f"{value:,}"
