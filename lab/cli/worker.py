"""`lab worker`: waits for trials of any study, and trains them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from lab.cli.messages import existing_study
from lab.cli.options import store_options, stores_from
from lab.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from lab.study import Event, TrialQueue

__all__ = ["worker"]

_STOPPING = "Stopping: running trials checkpoint and are put back."


@click.command(
    short_help="Wait for trials of any study, and train them.",
    epilog="""\b
Examples:
  lab worker                                   (whatever is submitted, until it is told to stop)
  lab worker --study quickstart --workers 2
  lab worker --idle-exit 60                    (ends when there was nothing to do for a minute)
  lab worker --storage postgresql://lab@db/lab --tracking-uri http://mlflow:5000

Any number of workers, on any machine that reaches the same stores, share the trials. A study begins when the
studies that its grid file `needs` are done. Trials of workers that died are continued.""",
)
@click.option(
    "--study", "studies", multiple=True, metavar="NAME", help="Only this study; may be given several times."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes to train with.  [default: one a core, or one a GPU]",
)
@click.option(
    "--idle-exit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so long without work.  [default: wait]",
)
@store_options
def worker(
    studies: tuple[str, ...],
    workers: int | None,
    idle_exit: float | None,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Train what waits in the studies, and wait for more.

    Ctrl-C or SIGTERM stops within ten seconds: running trials checkpoint and are put back, for any worker to
    continue. The exit code is then 128 + the signal's number (130, 143).
    """
    stores = stores_from(tracking_uri, storage)
    with stop_on_signals(_STOPPING) as stop:
        from lab.engines import serve

        for name in studies:
            existing_study(name, stores.storage)
        try:
            _say(f"waiting for trials of {', '.join(studies) or 'all studies'}")
            serve(
                stores,
                studies=studies,
                workers=workers,
                idle_exit=idle_exit,
                on_event=_tell,
                on_trouble=lambda message: click.secho(f"Trouble: {message}", err=True),
                should_stop=stop,
            )
        except KeyboardInterrupt:
            pass
    sys.exit(stop.exit_code if stop() else 0)


def _tell(queue: TrialQueue, event: Event) -> None:
    from lab.study import TrialEnded, TrialStarted

    if isinstance(event, TrialStarted):
        _say(f"{queue.name}  {event.label}  started")
    elif isinstance(event, TrialEnded):
        value = "" if event.value is None else f"  {queue.attribute('monitor', '')} {event.value:.4f}"
        _say(f"{queue.name}  {event.label}  {event.outcome}{value}{'  ' if event.error else ''}{event.error}")


def _say(text: str) -> None:
    """Print a line with the time of day, at once: a log is read while it grows."""
    click.echo(f"{time.strftime('%H:%M:%S')}  {text}")
    sys.stdout.flush()
