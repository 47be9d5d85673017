"""A leaderboard for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["duration", "formatted", "render", "render_effects"]

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
    "ci95": "±",
    "test_ci95": "±",
    "accuracy_per_million_params": "test/M",
    "pareto": "front",
}
# of cells, whose best_value is a mean; the first of those to leave out is missed least
_CELL_HEADINGS = {"best_value": "mean", "best": "best"}
_SPARE = (
    *("accuracy_per_million_params", "pareto", "epochs", "test_ci95", "best", "seconds", "best_epoch"),
    *("outcome", "params", "ci95", "n"),
)


@dataclass(frozen=True)
class _Leaderboard:
    """A leaderboard that leaves out what matters least where the terminal is narrow."""

    frame: pd.DataFrame
    title: str | None
    monitor: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        layouts = [self._table(columns) for columns in _layouts(list(map(str, self.frame.columns)))]
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
        headings = _HEADINGS | (_CELL_HEADINGS if "ci95" in self.frame else {})
        headings |= {
            name: name for name in _varied(list(map(str, self.frame.columns)))
        }  # `epochs` may be one
        for name in columns:
            numeric = pd.api.types.is_numeric_dtype(self.frame[name])
            heading = Text(headings.get(name, name))
            table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
        for _, row in self.frame.iterrows():
            cells = (_cell(name, row[name], self.monitor) for name in columns)
            table.add_row(*cells, style="bold" if row["rank"] == 1 else None)
        return table


def render(frame: pd.DataFrame, *, title: str | None = None, monitor: str | None = None) -> RenderableType:
    """Return `frame`, as `leaderboard` gives it, as a table to print.

    Where the console is too narrow for all columns, those that say least are left out.

    Args:
        frame: the leaderboard.
        title: above the table.
        monitor: what `best_value` is a value of, if `frame` does not say; accuracies are shown in percent.
    """
    return _Leaderboard(frame, title, monitor or frame.attrs.get("monitor", "val_accuracy"))


def render_effects(frame: pd.DataFrame, *, metric: str, title: str | None = None) -> Table:
    """Return `frame`, as `effects` gives it, as a table to print; `metric` is what its means are of."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold"
    )
    for heading in ("dimension", "value", "mean", "±", "best", "n", "left out"):
        table.add_column(heading, justify="left" if heading in ("dimension", "value") else "right")
    above = None
    for row in frame.to_dict("records"):
        if above not in (None, row["dimension"]):
            table.add_section()
        name = "" if above == row["dimension"] else row["dimension"]
        numbers = (_cell(metric, row[column], metric) for column in ("mean", "ci95", "best"))
        counts = (Text(str(row["n"])), Text(str(row["left_out"] or "")))
        table.add_row(Text(name), _cell("value", row["value"], metric), *numbers, *counts)
        above = row["dimension"]
    return table


def _layouts(columns: list[str]) -> Iterator[list[str]]:
    """Yield the columns to show, from the widest table to the narrowest."""
    varied = _varied(columns)
    spare = [name for name in _SPARE if name in columns and name not in varied]
    # the varied parameters say all that the name says, but each in a column of its own
    for hidden in (["name"], varied) if varied else ([],):
        for dropped in range(len(spare) + 1):
            out = {"run_id", *hidden, *spare[:dropped]}
            yield [name for name in columns if name not in out]


def _varied(columns: list[str]) -> list[str]:
    return columns[columns.index("name") + 1 : columns.index("best_value")]


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
    if name == "pareto":
        return Text("*" if value else "")
    meaning = {"best_value": monitor, "best": monitor, "ci95": monitor, "test_ci95": "test_accuracy"}
    return Text(formatted(meaning.get(name, name), value))


def formatted(name: str, value: Any) -> str:
    """Return a value of the column `name` for people: accuracies in percent, times as `duration`, few digits."""
    if isinstance(value, str):  # as a sampler's 0.012046216586337108, of which the run keeps all digits
        return f"{float(value):.4g}" if _LONG_NUMBER.fullmatch(value) else value
    if name == "seconds":
        return duration(value)
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return f"{value:,}"
