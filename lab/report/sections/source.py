"""What the sections of a report are made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lab.report.leaderboard import StudyRuns, cells
from lab.report.repeats import compared, is_averaged

__all__ = ["Source", "column", "round_numbers", "value_order"]

_MOST_TICKS = 7  # of an axis


@dataclass(frozen=True, eq=False)
class Source:
    """A study's runs, and its leaderboards with a row for each trial and for each cell."""

    study: str
    found: StudyRuns

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The leaderboard of the trials of the newest file."""
        return self.found.board(repeats="each")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The leaderboard of their cells."""
        return cells(self.trials)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of `trials`, in the same order, as `Tracker.runs` returns them."""
        everything = self.found.runs.set_index("run_id", drop=False)
        return everything.loc[list(self.trials["run_id"])].reset_index(drop=True)

    @property
    def metric(self) -> str:
        """The metric that best_value is a value of."""
        return str(self.trials.attrs["monitor"])

    @property
    def descending(self) -> bool:
        """Whether its highest value is the best."""
        return bool(self.trials.attrs["descending"])

    @property
    def dimensions(self) -> list[str]:
        """The dimensions that cells differ in; the repeats' if nothing else varies."""
        varied = [name for name in self.trials.attrs["varied"] if name in self.trials]
        return compared(varied) or varied

    @cached_property
    def cell_numbers(self) -> pd.Series[int]:
        """For each row of `trials` the place of its cell in `cells`, from 0."""
        places = {run_id: place for place, run_id in enumerate(self.cells["run_id"])}
        firsts = self.trials["run_id"].map(places)  # of the best repeat of each cell
        known = firsts.notna()
        if known.all():  # nothing is repeated
            return firsts.astype("int64")
        names = [name for name in compared(self.trials.attrs["varied"]) if name in self.trials]
        if not names:
            return pd.Series(0, index=self.trials.index, dtype="int64")
        groups = self.trials.groupby(names, dropna=False, sort=False).ngroup()
        return groups.map(dict(zip(groups[known], firsts[known].astype("int64"), strict=True)))

    @cached_property
    def trusted(self) -> pd.Series[float]:
        """The best value of each trial; NaN where it does not count: it is not finite, or the trial diverged."""
        values = self.trials["best_value"].astype("float64")
        counts = values.map(math.isfinite) & is_averaged(self.trials, self.cell_numbers)
        return values.where(counts)

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The cells that have a finite value."""
        return self.cells[self.cells["best_value"].astype("float64").map(math.isfinite).astype(bool)]

    @property
    def sound(self) -> pd.DataFrame:
        """Those of the cells with a finite value that have not diverged."""
        return self.finished[self.finished["outcome"] != "diverged"]

    def best(self, most: int) -> list[int]:
        """Return the places in `cells` of the best ones that have a finite value."""
        finite = self.cells["best_value"].astype("float64").map(math.isfinite)
        return [place for place, is_finite in enumerate(finite) if is_finite][:most]

    def members(self, place: int) -> list[str]:
        """Return the ids of the runs that the mean of the cell at `place` is of: none that diverged or failed."""
        return list(self.trials.loc[(self.cell_numbers == place) & self.trusted.notna(), "run_id"])

    def cell_metric(self, name: str) -> pd.Series[float]:
        """Return the mean of a logged metric over the repeats of each cell, with the index of `cells`."""
        values = pd.to_numeric(column(self.runs, f"metrics.{name}"), errors="coerce").astype("float64")
        means = values.groupby(self.cell_numbers).mean()
        return means.reindex(range(len(self.cells))).set_axis(self.cells.index)


def column(frame: pd.DataFrame, name: str, missing: Any = None) -> pd.Series[Any]:
    """Return a column of `frame`, full of `missing` if there is none."""
    return frame[name] if name in frame else pd.Series(missing, index=frame.index, dtype="object")


def value_order(text: str) -> tuple[float, str]:
    """Return what the text of a value is sorted by: numbers and parts of a range in their order, then other texts."""
    try:
        return float(text.partition(" to ")[0]), text
    except ValueError:
        return math.inf, text


def round_numbers(low: float, high: float, log: bool = False) -> list[float]:
    """Return a few round numbers from `low` to `high` for an axis, a log axis if `log`; at least these two."""
    if log:
        first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
        candidates = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
        found = [number for number in candidates if low <= number <= high]
        found = (
            found
            if len(found) <= _MOST_TICKS
            else [number for number in found if f"{number:e}".startswith("1.")]
        )
        return found if len(found) > 1 else [low, high]
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= _MOST_TICKS)
    return [at * step for at in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)] or [
        low,
        high,
    ]
