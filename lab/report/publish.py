"""Publishes a study's results on its own run: leaderboard, effects and figures."""

from __future__ import annotations

from functools import partial

import pandas as pd

from lab import pictures
from lab.report.effects import effects
from lab.report.leaderboard import cells
from lab.report.repeats import compared
from lab.report.table import without_formulas
from lab.tracking import Run

__all__ = ["publish_leaderboard"]


def publish_leaderboard(run: Run, trials: pd.DataFrame) -> pd.DataFrame:
    """Store the results of a study on its parent `run`; return the leaderboard, with one row for each cell.

    Tables are stored for the MLflow UI (`leaderboard.json`, `effects.json`) and as CSV, figures as `effects.png`,
    `size.png` and `time.png`.

    Args:
        run: the study's run.
        trials: from `leaderboard` with `repeats="each"`.
    """
    board = cells(trials)
    table = effects(trials, [name for name in trials.attrs["varied"] if name in trials])
    for name, content in (("leaderboard", board), ("effects", table)):
        run.log_table(content, f"{name}.json")
        run.log_text(without_formulas(content).to_csv(index=False), f"{name}.csv")
    metric = trials.attrs["monitor"]
    pictures.log_figure(run, "effects.png", lambda: pictures.effects_figure(table, metric=metric))
    pictures.log_figure(run, "size.png", lambda: pictures.size_figure(board))
    _log_time_figure(run, trials, board)
    return board


def _log_time_figure(run: Run, trials: pd.DataFrame, board: pd.DataFrame) -> None:
    """Log accuracy against training time; if only one dimension varies, both against its values."""
    dimensions = compared(trials.attrs["varied"])
    if len(dimensions) == 1:
        accuracy, seconds = (effects(trials, dimensions, metric) for metric in ("test_accuracy", "seconds"))
        draw = partial(pictures.values_figure, dimensions[0], accuracy, seconds)
    else:
        draw = partial(pictures.time_figure, board)
    pictures.log_figure(run, "time.png", draw)
