"""`lab watch`: a study as it goes, whoever trains it."""

from __future__ import annotations

import sys

import click

from lab import study as studies
from lab.cli.console import terminal
from lab.cli.live import SweepDisplay
from lab.cli.options import store_options, stores_from
from lab.cli.signals import stop_on_signals

__all__ = ["watch"]

_STOPPING = "No longer watching; the study goes on."


@click.command(
    short_help="Watch a study that others train.",
    epilog="""\b
Examples:
  lab watch quickstart
  lab watch quickstart --storage postgresql://lab@db/lab""",
)
@click.argument("study")
@store_options
def watch(study: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show how STUDY goes on until it is done: its trials, epochs, the best so far, the time left.

    Ctrl-C ends only the watching. The exit code is 0 when every cell is done, 1 when some failed or the study was
    cancelled, 130 after Ctrl-C.
    """
    queue = studies.existing_study(stores_from(tracking_uri, storage).storage, study)
    with stop_on_signals("" if terminal().is_terminal else _STOPPING) as stop:
        with SweepDisplay(stop, message=_STOPPING) as display:
            from lab.engines import watch as watch_study

            progress = watch_study(queue, on_progress=display.update, should_stop=stop)
        if stop():
            sys.exit(stop.exit_code)
    cancelled = queue.is_cancelled()
    counts = f"{progress.done:,} done, {progress.failed:,} failed"
    click.echo(f"{study}: {counts}{f', cancelled with {progress.waiting:,} waiting' if cancelled else ''}")
    click.echo(f"Let it go on with: lab resume {study}" if cancelled else f"What won: lab best {study}")
    sys.exit(1 if progress.failed or cancelled else 0)
