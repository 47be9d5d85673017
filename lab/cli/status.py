"""`lab status`: how a study stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lab.cli.messages import existing_study
from lab.cli.options import store_options, stores_from
from lab.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Collection

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
    from lab.study import known_studies, statuses, study_status

    stores = stores_from(tracking_uri, storage)
    missing = _Missing(stores.tracking_uri)
    if study is None:
        found = statuses(stores.storage, missing)
    else:
        existing_study(study, stores.storage)
        found = [study_status(stores.storage, study, missing)]
    if form == "json":
        click.echo(
            json.dumps([one.as_dict() for one in found] if study is None else found[0].as_dict(), indent=2)
        )
    elif not found:
        click.echo("No studies yet: `lab sweep GRID` makes one.")
    for one in found if form == "table" else []:
        _print(one, details=study is not None)
    if form == "table":
        others = known_studies(stores.storage).others if study is None else []
        if others:
            click.echo(f"not lab's: {', '.join(others)}")
        if missing.trouble:
            click.echo(f"Whether runs were deleted is not known: {missing.trouble}")
        _print_undelivered(stores)


class _Missing:
    """Asks the tracking store which runs are no more; one that does not answer is asked no second time."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self.trouble = ""

    def __call__(self, run_ids: Collection[str]) -> Collection[str]:
        from lab.tracking import missing_runs

        if self.trouble:
            return ()
        try:
            return missing_runs(self._uri, run_ids)
        except TrackingError as error:
            self.trouble = str(error)
            return ()


def _print_undelivered(stores: Stores) -> None:
    from lab.cli.messages import undelivered
    from lab.tracking import left, public_uri

    found = left(stores.journal_dir, public_uri(stores.tracking_uri), seconds=_NOTEWORTHY)
    if found:
        click.echo(undelivered(found, stores.tracking_uri))


def _print(status: StudyStatus, *, details: bool) -> None:
    if status.trouble and not status.states:
        click.echo(f"{status.name}: {status.trouble}")
        return
    counts = ", ".join(f"{number} {state}" for state, number in status.states.items())
    best = (
        f"; best {status.monitor} {status.best_value:.4f} ({status.best_label})" if status.best_label else ""
    )
    click.echo(f"{status.name}: {counts or 'no trials'}{best}")
    if status.trouble:
        click.echo(f"  nobody trains it: {status.trouble}")
    if status.states.get("deleted"):
        click.echo(f"  deleted in MLflow: `lab retry {status.name} --deleted` trains these cells again")
    if not details:
        return
    if status.others:
        click.echo(f"  not lab's: {status.others} trials that another program has added are left alone")
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
