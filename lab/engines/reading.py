"""A study to read from Python: its tables as DataFrames, and what a notebook shows of it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
from rich.console import Group, RenderableType
from rich.jupyter import JupyterMixin
from rich.text import Text

from lab.engines.leaderboards import study_board, study_effects
from lab.engines.missing import MissingRuns
from lab.engines.reporting import write_report
from lab.engines.stores import Stores
from lab.engines.tables import study_curves, study_trials
from lab.report import render
from lab.study import StudyStatus, existing_study, study_status

__all__ = ["Study", "load_study"]

_ROWS = 10  # that a notebook shows


class Study(JupyterMixin):
    """A study, read anew at every call, while it is trained or afterwards; from `load_study`.

    A notebook shows its state and the top of its leaderboard. `of="all"` includes the trials of earlier files and
    other settings.

    Attributes:
        name: of the study.
    """

    def __init__(self, name: str, stores: Stores) -> None:
        self.name = name
        self._stores = stores

    def leaderboard(
        self,
        metric: str = "best_value",
        *,
        repeats: Literal["mean", "each"] = "mean",
        of: Literal["newest", "all"] = "newest",
    ) -> pd.DataFrame:
        """Return the leaderboard, as `lab best` shows it: a row for each cell, or with `each` for each trial.

        Raises:
            StudyError: no trial has such a metric.
        """
        return study_board(self.name, self._stores, metric, repeats=repeats, of=of).frame

    def trials(self, *, of: Literal["newest", "all"] = "newest") -> pd.DataFrame:
        """Return a row for each trial, with all its settings and metrics, as `lab export` writes it."""
        return study_trials(self.name, self._stores, of=of)

    def curves(self, *, of: Literal["newest", "all"] = "newest") -> pd.DataFrame:
        """Return a row for each point of the trials' curves: run_id, name, trial, metric, step and value."""
        return study_curves(self.name, self._stores, of=of)

    def effects(self, metric: str = "best_value", *, of: Literal["newest", "all"] = "newest") -> pd.DataFrame:
        """Return how the values of each parameter compare, as `lab effects` does.

        Raises:
            StudyError: no trial has such a metric.
        """
        return study_effects(self.name, self._stores, metric, of=of).table

    def report(self, out: Path | str = "report.html") -> Path:
        """Write its report to the file `out`, as `lab report` does, and return the file.

        Raises:
            ConfigError: the folder of `out` does not exist.
            LabError: the file cannot be written, or a store fails.
        """
        write_report([self.name], self._stores, Path(out))
        return Path(out)

    def status(self) -> StudyStatus:
        """Return its trials by state, those that are running and have failed, and the best value."""
        return study_status(self._stores.storage, self.name, self._missing)

    def __repr__(self) -> str:
        return f"<Study {self.name!r}>"

    def __rich__(self) -> RenderableType:
        """Return what rich prints of it, and a notebook shows."""
        status = self.status()
        counts = ", ".join(f"{number:,} {state}" for state, number in status.states.items())
        board = study_board(self.name, self._stores, top=_ROWS).frame
        said = Text(f"{self.name}: {counts or 'no trials'}")
        return said if board.empty else Group(said, render(board))

    @cached_property
    def _missing(self) -> MissingRuns:
        return MissingRuns(self._stores.tracking_uri)


def load_study(name: str, stores: Stores | None = None) -> Study:
    """Return a study to read.

    Args:
        name: of the study.
        stores: where it is kept; `.lab` of the working directory if None.

    Raises:
        StudyError: there is no such study; the message lists those that exist.
    """
    stores = stores or Stores()
    existing_study(stores.storage, name)
    return Study(name, stores)
