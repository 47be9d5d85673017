"""What `lab plan --estimate` shows: the time and the cost of a sweep, before it is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab import engines, report
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.engines import Estimate, Stores

__all__ = ["estimate_table", "estimated"]

_LEAST = 0.01  # what is less than this of an hour, or of a price, is shown as less


def estimated(grid: Grid, stores: Stores, workers: int | None) -> Estimate:
    """Return the estimate of `grid`; on a terminal, stderr shows how far it is."""
    with Console(stderr=True).status("Looking at the study …") as status:

        def timed(done: int, kinds: int) -> None:
            status.update(f"Timing a few steps: {done} of {counted(kinds, 'kind')} of work (Ctrl-C stops)")

        return engines.estimate(grid, stores, workers=workers, on_timed=timed)


def estimate_table(grid: Grid, found: Estimate, price: float | None) -> Table:
    """Return an estimate, ready to print."""
    table = Table(title=_title(grid, found), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.show_header = False
    for name, text in _lines(grid, found, price).items():
        if text:
            table.add_row(name, Text(text))
    return table


def _title(grid: Grid, found: Estimate) -> str:
    if not found.trials:
        return f"Estimate: nothing is left to train of {grid.name}"
    return f"Estimate for {counted(found.trials, 'trial')} with {counted(found.workers, 'worker')}"


def _lines(grid: Grid, found: Estimate, price: float | None) -> dict[str, str]:
    if not found.trials:
        return {}
    slowest = (f"{cost.label} ({report.duration(cost.seconds)})" for cost in found.slowest)
    return {
        "time": _range(*map(report.duration, found.wall_seconds)),
        f"{found.unit}-hours": _range(*map(_amount, found.hours)),
        "cost": "" if price is None else _range(*(_amount(price * hours) for hours in found.hours)),
        "slowest": ", ".join(slowest),
        "known from": _source(found),
        "limit": _limit(grid, found),
        "not counted": ", ".join(f"{name}, which is trained first" for name in grid.needs),
    }


def _range(least: str, most: str) -> str:
    if least != most:
        return f"{least} if all trials stop as early as they can, up to {most}"
    return most if most.startswith("less") else f"about {most}"


def _amount(value: float) -> str:
    return f"{value:,.2f}" if value >= _LEAST else f"less than {_LEAST}"


def _source(found: Estimate) -> str:
    """Return what the estimate rests on."""
    counts = found.as_dict()["from"]
    parts = []
    if known := counts.get("finished trials"):
        parts.append(f"finished trials of the study for {counted(known, 'trial')}")
    if found.timed:
        parts.append(f"a few steps here of {found.timed} of {counted(found.kinds, 'kind')} of work")
    if found.random_data:
        parts.append(f"random images in place of {', '.join(found.random_data)}")
    return "; ".join(parts)


def _limit(grid: Grid, found: Estimate) -> str:
    seconds = grid.budget.seconds
    if seconds is None or seconds >= found.wall_seconds[1]:
        return ""
    return f"no trial starts after {report.duration(seconds)} (budget)"
