"""`lab sync`: delivers what was logged while the tracking server was unreachable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from lab import tracking
from lab.cli.options import store_options, stores_from
from lab.wording import counted

if TYPE_CHECKING:
    from lab.tracking import Delivered, Refused

__all__ = ["sync"]


@click.command(
    short_help="Deliver what the tracking server has not received yet.",
    epilog="""\b
Examples:
  lab sync
  lab sync --tracking-uri http://mlflow:5000
  lab sync && lab best quickstart

Trials first write to a journal in .lab/journal, so they keep training while the server is unreachable. What the server
acknowledges leaves the journal; nothing is logged twice, however often it is sent. `lab status` shows what is still
undelivered. Running trials deliver their own journals, and every worker delivers those left by earlier ones.""",
)
@store_options
def sync(tracking_uri: str | None, storage: str | None) -> None:
    """Deliver what trials on this machine have logged but the MLflow server has not acknowledged.

    What the server refused before is tried again. A run of `lab train` or `lab find-lr` whose process has died is ended
    as KILLED; `lab train --resume` continues it. The exit code is 0 if nothing is left to do, and 1 otherwise.
    """
    stores = stores_from(tracking_uri, storage)
    result = tracking.deliver(
        tracking.connect(stores.tracking_uri, stores.artifact_dir), stores.journal_dir, retry_refused=True
    )
    shown = tracking.public_uri(stores.tracking_uri)
    if result.writes or not (result.left or result.away):
        click.echo(_delivered(result, shown))
    if result.away:
        click.echo(f"{result.away} Run `lab sync` again once it answers", err=True)
    for run in result.ended:
        click.echo(f"Ended the run {run} as KILLED, because its process has died")
    for refused in result.refused:
        click.echo(_refused(refused), err=True)
    if result.left:
        click.echo(f"Left in {stores.journal_dir}: {result.left}", err=True)
    if result.foreign:
        journals = counted(result.foreign, "journal")
        click.echo(f"Not delivered: {journals} of other users; each has to run `lab sync`", err=True)
    for other in result.others:
        click.echo(f"There is more to deliver to another store: lab sync --tracking-uri {other}", err=True)
    sys.exit(1 if result.left or result.refused or result.away else 0)


def _delivered(result: Delivered, store: str) -> str:
    if not result.writes:
        return f"Nothing is left to deliver to {store}"
    return f"Delivered to {store}: {counted(result.writes, 'write')} of {counted(result.runs, 'run')}"


def _refused(refused: Refused) -> str:
    return (
        f"Refused, {refused.run}: {refused.reason} Fix the cause and run `lab sync` again, or delete {refused.folder}"
        " to discard its contents"
    )
