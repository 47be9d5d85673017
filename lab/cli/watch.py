"""`lab watch`: the progress of a study, whoever trains it."""

from __future__ import annotations

import sys

import click

from lab import engines, study
from lab.cli.console import terminal
from lab.cli.live import SweepDisplay
from lab.cli.messages import why_held_back
from lab.cli.options import store_options, stores_from, study_argument
from lab.cli.signals import stop_on_signals

__all__ = ["watch"]

_STOPPING = "No longer watching; the study continues."


@click.command(
    short_help="Watch a study while others train it.",
    epilog="""\b
Examples:
  lab watch quickstart
  lab watch quickstart --storage postgresql://lab@db/lab""",
)
@study_argument()
@store_options
def watch(name: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show the progress of STUDY until it is over: running trials, epochs, the best so far, the time left.

    Ctrl-C ends only the watching. The exit code is 0 if every cell is done, 1 if some failed or the study was
    cancelled, and 130 after Ctrl-C.
    """
    queue = study.existing_study(stores_from(tracking_uri, storage).storage, name)
    with stop_on_signals("" if terminal().is_terminal else _STOPPING) as stop:
        with SweepDisplay(stop, message=_STOPPING) as display:
            progress = engines.watch(queue, on_progress=display.update, stop=stop)
        if stop():
            sys.exit(stop.exit_code)
    cancelled, held_back = queue.is_cancelled(), queue.held_back()
    counts = f"{progress.done:,} done, {progress.failed:,} failed"
    click.echo(f"{name}: {counts}{f', cancelled with {progress.waiting:,} waiting' if cancelled else ''}")
    if held_back and not cancelled:
        click.echo(f"{name}: {why_held_back(held_back, name)}")
    click.echo(f"Resume it with: lab resume {name}" if cancelled else f"Show the best with: lab best {name}")
    sys.exit(1 if progress.failed or cancelled else 0)
