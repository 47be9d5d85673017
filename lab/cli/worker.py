"""`lab worker`: waits for trials of any study, and trains them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from lab import logs, study
from lab.cli.messages import undelivered
from lab.cli.options import store_options, stores_from
from lab.cli.signals import stop_on_signals
from lab.cli.worker_events import EventLog, Observer
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engines import Served, Stores
    from lab.study import Event, TrialQueue
    from lab.tracking import Left

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
  lab worker --log-format json --metrics 0.0.0.0:9100      (in a container)

Any number of workers, on any machine that reaches the same stores, share the trials. A study begins when the
studies that its grid file `needs` are done. Trials of workers that died are continued.

Passwords need not stand in an address: MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
~/.mlflow/credentials; PostgreSQL reads PGPASSFILE, or ~/.pgpass. None is ever logged.""",
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
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    envvar="LAB_LOG_FORMAT",
    show_envvar=True,
    help="Lines for a person, or one JSON object each for a log collector; docs/REFERENCE.md lists its fields.",
)
@click.option(
    "--metrics",
    "address",
    metavar="[HOST:]PORT",
    envvar="LAB_METRICS",
    show_envvar=True,
    help="Serve metrics for Prometheus at http://HOST:PORT/metrics; a port alone is on 127.0.0.1.  [default: none]",
)
@store_options
def worker(
    studies: tuple[str, ...],
    workers: int | None,
    idle_exit: float | None,
    log_format: str,
    address: str | None,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Train what waits in the studies, and wait for more.

    Ctrl-C or SIGTERM stops within ten seconds: running trials checkpoint and are put back, for any worker to
    continue. The exit code is then 128 + the signal's number (130, 143). After --idle-exit it is 1 where there was
    work and all of it broke down, else 0. Studies that lab has not planned are left alone.
    """
    stores, log = stores_from(tracking_uri, storage), EventLog()
    logs.configure(log_format)
    click.get_current_context().find_root().call_on_close(logs.reset)  # after the last error was told
    with stop_on_signals(_STOPPING, log.stopping) as stop:
        try:
            served = _work(stores, log, address, studies, workers, idle_exit, stop)
        except KeyboardInterrupt:
            served = None
        finally:
            left = _left(stores)
            if left:
                log.undelivered(undelivered(left, stores.tracking_uri), left.writes)
    if stop():
        sys.exit(stop.exit_code)
    if served is not None and served.in_vain:
        raise LabError(_in_vain(served))


def _in_vain(served: Served) -> str:
    """Return that all of the work broke down."""
    broken = ", ".join(sorted(served.broken))
    parts = [f"{served.failed:,} trials failed"] if served.failed else []
    parts += [f"nothing could be done about {broken}"] if broken else []
    return f"All of the work broke down: {', and '.join(parts)}. `lab status STUDY` says more"


def _work(
    stores: Stores,
    log: EventLog,
    address: str | None,
    studies: tuple[str, ...],
    workers: int | None,
    idle_exit: float | None,
    should_stop: Callable[[], bool],
) -> Served:
    from lab.engines import serve

    logs.adopt()  # the loggers of what was just imported
    for name in studies:
        study.existing_study(stores.storage, name)
    with ExitStack() as stack:
        observers: list[Observer] = [log]
        if address is not None:
            observers.append(stack.enter_context(_metrics(address, stores, log)))
        log.waiting(studies)
        return serve(
            stores,
            studies=studies,
            workers=workers,
            idle_exit=idle_exit,
            on_event=lambda queue, event: _tell(observers, queue, event),
            on_trouble=lambda message: _warn(observers, message),
            on_delivered=log.delivered,
            should_stop=should_stop,
        )


@contextmanager
def _metrics(address: str, stores: Stores, log: EventLog) -> Iterator[Observer]:
    from lab.cli.metrics import Metrics, served
    from lab.cli.version import installed_version

    metrics = Metrics(lambda: _left(stores).writes, installed_version())
    with served(metrics, address) as url:
        log.serving(url)
        yield metrics


def _left(stores: Stores) -> Left:
    from lab.tracking import left, public_uri

    return left(stores.journal_dir, public_uri(stores.tracking_uri))


def _tell(observers: list[Observer], queue: TrialQueue, event: Event) -> None:
    for observer in observers:
        observer.event(queue, event)


def _warn(observers: list[Observer], message: str) -> None:
    for observer in observers:
        observer.trouble(message)
