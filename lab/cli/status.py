"""`lab status`: how a study stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lab.cli.messages import unknown_study
from lab.cli.options import store_options, stores_from
from lab.errors import StudyError

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.study import StudyStatus

__all__ = ["status"]

_NOTEWORTHY = 10.0  # seconds after which it says something that a write is not delivered


@click.command(
    short_help="Show how studies stand.",
    epilog="""\b
Examples:
  lab status                (all studies)
  lab status quickstart
  lab status quickstart --format json""",
)
@click.argument("study", required=False)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_options
def status(study: str | None, form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show how many trials of STUDY are done, running, waiting and failed, who trains what, and the best so far."""
    from lab.study import study_names, study_status

    stores = stores_from(tracking_uri, storage)
    url = stores.storage
    names = study_names(url)
    if study is not None and study not in names:
        raise StudyError(unknown_study(study, url))
    found = [study_status(url, name) for name in ([study] if study else names)]
    if form == "json":
        click.echo(
            json.dumps([one.as_dict() for one in found] if study is None else found[0].as_dict(), indent=2)
        )
    elif not found:
        click.echo("No studies yet: `lab sweep GRID` makes one.")
    for one in found if form == "table" else []:
        _print(one, details=study is not None)
    if form == "table":
        _print_undelivered(stores)


def _print_undelivered(stores: Stores) -> None:
    from lab.cli.messages import undelivered
    from lab.tracking import left, public_uri

    found = left(stores.journal_dir, public_uri(stores.tracking_uri), seconds=_NOTEWORTHY)
    if found:
        click.echo(undelivered(found, stores.tracking_uri))


def _print(status: StudyStatus, *, details: bool) -> None:
    counts = ", ".join(f"{number} {state}" for state, number in status.states.items())
    best = (
        f"; best {status.monitor} {status.best_value:.4f} ({status.best_label})" if status.best_label else ""
    )
    click.echo(f"{status.name}: {counts or 'no trials'}{best}")
    if not details:
        return
    if status.cancelled:
        click.echo(f"  cancelled: `lab resume {status.name}` lets it go on")
    for trial in status.running:
        value = "" if trial["value"] is None else f", {status.monitor} {trial['value']:.4f}"
        click.echo(
            f"  running  {trial['label']}: epoch {trial['epoch']}/{trial['epochs']}{value}  ({trial['worker']})"
        )
    for trial in status.interrupted:
        last = f"epoch {trial['epoch']}/{trial['epochs']}"
        click.echo(
            f"  interrupted  {trial['label']}: {last}, its worker {trial['worker']} is gone; "
            "the next sweep or worker continues it"
        )
    for trial in status.failed:
        click.echo(f"  failed   {trial['label']}: {trial['error']}")
