"""What a study's own run carries: its leaderboard, its effects and their pictures."""

from __future__ import annotations

import pandas as pd

from lab.pictures.drawing import log_figure
from lab.report.effects import effects
from lab.report.figures import effects_figure, size_figure, time_figure
from lab.report.leaderboard import cells
from lab.tracking import Run

__all__ = ["publish_leaderboard"]


def publish_leaderboard(run: Run, trials: pd.DataFrame) -> pd.DataFrame:
    """Store what a study found on its parent `run`; return the leaderboard, repeats as one row.

    Tables are stored for the MLflow UI (`leaderboard.json`, `effects.json`) and as CSV, the figures as
    `effects.png`, `size.png` and `time.png`.

    Args:
        run: the study's.
        trials: from `leaderboard` with `repeats="each"`.
    """
    frame = cells(trials)
    varied = trials.attrs["varied"]
    table = effects(trials, [name for name in varied if name in trials])
    for name, content in (("leaderboard", frame), ("effects", table)):
        run.log_table(content, f"{name}.json")
        run.log_text(content.to_csv(index=False), f"{name}.csv")
    log_figure(run, "effects.png", lambda: effects_figure(table, metric=trials.attrs["monitor"]))
    log_figure(run, "size.png", lambda: size_figure(frame))
    log_figure(run, "time.png", lambda: time_figure(trials, frame, varied))
    return frame
