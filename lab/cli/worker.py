"""`lab worker`: waits for trials of any study, and trains them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lab import engines, logs, study, tracking
from lab.cli.engine_options import engine_options, profile_from
from lab.cli.messages import undelivered
from lab.cli.metrics import Metrics, served
from lab.cli.options import store_options, stores_from
from lab.cli.signals import stop_on_signals
from lab.cli.version import installed_version
from lab.cli.worker_events import EventLog, Observer
from lab.errors import LabError
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import Profile, Served, Stores
    from lab.study import Event, TrialQueue
    from lab.tracking import Left

__all__ = ["worker"]

_STOPPING = "Stopping: running trials checkpoint and return to the queue."


@click.command(
    short_help="Wait for trials of any study, and train them.",
    epilog="""\b
Examples:
  lab worker                                   (trains whatever is submitted, until it is told to stop)
  lab worker --study quickstart --workers 2
  lab worker --idle-exit 60                    (exits after a minute without work)
  lab worker --gpu-memory 6GB                  (as many trials at once as each GPU has room for)
  lab worker --storage postgresql://lab@db/lab --tracking-uri http://mlflow:5000
  lab worker --log-format json --metrics 0.0.0.0:9100      (in a container)
  lab worker --on slurm --workers 8 --gpus-per-worker 1 --time 12h      (places jobs while trials wait, and no others)
  lab worker --on ray --workers 8 --address ray://head:10001

Any number of workers share the trials, on any machine that reaches the same stores. A study starts once the studies
that its grid file `needs` are done. Trials whose worker died are resumed.

CUDA_VISIBLE_DEVICES is respected: CUDA_VISIBLE_DEVICES=2,3 uses these two GPUs. A trial that runs out of memory on a
shared GPU is retried with a GPU to itself before it fails.

Passwords need not be part of an address: MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
~/.mlflow/credentials; PostgreSQL reads PGPASSFILE, or ~/.pgpass. Passwords are never logged.""",
)
@click.option(
    "--study", "studies", multiple=True, metavar="NAME", help="Train only this study. May be repeated."
)
@engine_options
@click.option(
    "--allow-code/--no-allow-code",
    default=None,
    envvar="LAB_ALLOW_CODE",
    show_envvar=True,
    help="Run plug-ins that studies bring along as source code. Allow it if you trust everyone who can submit to the "
    "database. Plug-ins that installed packages declare need no permission.  [default: only from databases of "
    "your own, such as .lab]",
)
@click.option(
    "--idle-exit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Exit after this long without work.  [default: wait]",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    envvar="LAB_LOG_FORMAT",
    show_envvar=True,
    help="Plain text, or one JSON object per line for a log collector; docs/reference/running.md lists its fields.",
)
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    envvar="LAB_METRICS",
    show_envvar=True,
    help="Serve metrics for Prometheus at http://HOST:PORT/metrics; HOST is 127.0.0.1 if omitted.  [default: none]",
)
@store_options
def worker(
    log_format: str,
    metrics: str | None,
    tracking_uri: str | None,
    storage: str | None,
    allow_code: bool | None,
    **options: Any,
) -> None:
    """Train the waiting trials of all studies, and wait for more.

    Ctrl-C or SIGTERM stops within ten seconds, on a cluster within about a minute: running trials checkpoint and
    return to the queue, for any worker to resume. The exit code is then 128 + the signal's number (130, 143). After
    --idle-exit it is 1 if there was work and all of it failed, and 0 otherwise. Studies that lab did not create are
    left alone.
    """
    profile = profile_from(options)
    stores, log = stores_from(tracking_uri, storage), EventLog()
    stores = replace(stores, allow_code=stores.are_own if allow_code is None else allow_code)
    logs.configure(log_format)
    click.get_current_context().find_root().call_on_close(logs.reset)  # once the last error is logged
    with stop_on_signals(_STOPPING, log.stopping) as stop:
        try:
            served = _work(stores, profile, log, metrics, should_stop=stop, **options)
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
    """Return that all of the work failed."""
    parts = [f"{counted(served.failed, 'trial')} failed"] if served.failed else []
    parts += [f"could not work on {', '.join(sorted(served.broken))}"] if served.broken else []
    return f"All of the work failed: {', and '.join(parts)}. `lab status STUDY` says more"


def _work(
    stores: Stores,
    profile: Profile,
    log: EventLog,
    metrics: str | None,
    *,
    studies: tuple[str, ...],
    **options: Any,
) -> Served:
    serve = engines.serve
    logs.adopt()  # the loggers of what that has just imported
    for name in studies:
        study.existing_study(stores.storage, name)
    with ExitStack() as stack:
        observers: list[Observer] = [log]
        if metrics is not None:
            observers.append(stack.enter_context(_metrics(metrics, stores, log)))
        log.waiting(studies)
        return serve(
            stores,
            studies=studies,
            on_event=lambda queue, event: _tell(observers, queue, event),
            on_trouble=lambda message: _warn(observers, message),
            on_delivered=log.delivered,
            on_note=log.note,
            **engines.place(profile, stores),
            **options,
        )


@contextmanager
def _metrics(address: str, stores: Stores, log: EventLog) -> Iterator[Observer]:
    metrics = Metrics(lambda: _left(stores).writes, installed_version())
    with served(metrics, address) as url:
        log.serving(url)
        yield metrics


def _left(stores: Stores) -> Left:
    return tracking.left(stores.journal_dir, tracking.public_uri(stores.tracking_uri))


def _tell(observers: list[Observer], queue: TrialQueue, event: Event) -> None:
    for observer in observers:
        observer.event(queue, event)


def _warn(observers: list[Observer], message: str) -> None:
    for observer in observers:
        observer.trouble(message)
