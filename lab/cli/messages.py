"""Sentences that several commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lab import engines, tracking
from lab.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from lab.study import HeldBack
    from lab.tracking import Left

__all__ = ["browse", "data_lines", "tell_left_out", "unclear", "undelivered", "why_held_back"]


def data_lines(notes: Sequence[str]) -> list[str]:
    """Return how to show `lab.data.data_notes`: nothing if there are none."""
    return ["data", *(f"  {note}" for note in notes)] if notes else []


def browse(tracking_uri: str, experiment: str | None = None, run_id: str | None = None) -> str:
    """Return how to look at a run, an experiment's leaderboard, or everything that was tracked."""
    link = engines.link(tracking_uri, experiment, run_id)
    return f"Browse it: {', then '.join(filter(None, (link.command, link.url)))}"


def undelivered(left: Left, tracking_uri: str) -> str:
    """Return what the tracking store has not acknowledged, and what to do about it."""
    how = (
        "`lab sync` says why"
        if left.refused
        else "`lab sync` or any later worker on this machine delivers them"
    )
    return (
        f"Not delivered to {tracking.public_uri(tracking_uri)}: {left}. They are kept in .lab/journal; {how}"
    )


def why_held_back(held_back: HeldBack, name: str) -> str:
    """Return why trials of a study wait and do not start, and what lets them start."""
    if held_back == "out_of_time":
        return f"out of time: `lab resume {name}` restarts the clock of `budget.seconds`"
    return f"too many failures: `lab resume {name}` lets another `max_failures` cells fail"


def unclear(trouble: str) -> str:
    """Return that nobody can tell which runs were deleted, and why."""
    return f"Cannot tell whether any runs were deleted: {trouble}"


def tell_left_out(frame: pd.DataFrame, command: str, *, err: bool = False) -> None:
    """Print which trials of the study a leaderboard leaves out.

    Args:
        frame: from `lab.report.leaderboard`.
        command: the command that shows them if `--all` is added.
        err: whether to print to stderr, because a program reads stdout.
    """
    count, other = frame.attrs.get("left_out", 0), frame.attrs.get("other", "")
    if count:
        settings = f" ({other})" if other else ""
        click.echo(
            f"Not shown: {counted(count, 'trial')} from earlier files or with other settings{settings}; "
            f"include them with: {command} --all",
            err=err,
        )
