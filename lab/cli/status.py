"""`lab status`: the progress of studies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lab import engines, study, tracking
from lab.cli.all_studies import show_all
from lab.cli.messages import unclear, undelivered, why_held_back
from lab.cli.options import format_option, store_options, stores_from, study_argument
from lab.errors import printable

if TYPE_CHECKING:
    from lab.engines import MissingRuns, Stores
    from lab.study import StudyStatus

__all__ = ["status"]

_NOTEWORTHY = 10.0  # seconds for which a write may be undelivered before it is mentioned


@click.command(
    short_help="Show the progress of studies.",
    epilog="""\b
Examples:
  lab status                (all studies)
  lab status quickstart
  lab status quickstart --format json
  lab status --waiting      (one number, for scripts and autoscalers)""",
)
@study_argument(required=False)
@click.option(
    "--waiting",
    is_flag=True,
    help="Print only the number of waiting trials that a worker could start now.",
)
@format_option("table", "json")
@store_options
def status(name: str | None, waiting: bool, form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show the progress of STUDY: its trials by state, which worker trains what, and the best trial so far.

    Without STUDY, list all studies, as `lab list` does.
    """
    stores = stores_from(tracking_uri, storage)
    if waiting:
        _print_waiting(stores, name)
        return
    missing = engines.MissingRuns(stores.tracking_uri)
    if name is None:
        show_all(stores, form)
    else:
        study.existing_study(stores.storage, name)
        found = study.study_status(stores.storage, name, missing)
        if form == "json":
            click.echo(json.dumps(found.as_dict(), indent=2))
        else:
            _print(found)
    if form == "table":
        _print_stores(missing, stores)


def _print_waiting(stores: Stores, name: str | None) -> None:
    if name is not None:
        study.existing_study(stores.storage, name)
    broken: list[str] = []
    count = study.waiting_trials(
        stores.storage, name, lambda one, error: broken.append(f"{one}: {study.reason(error)}")
    )
    for trouble in broken:
        click.echo(f"not counted: {trouble}", err=True)
    click.echo(count)


def _print_stores(missing: MissingRuns, stores: Stores) -> None:
    if missing.trouble:
        click.echo(unclear(missing.trouble))
    left = tracking.left(stores.journal_dir, tracking.public_uri(stores.tracking_uri), seconds=_NOTEWORTHY)
    if left:
        click.echo(undelivered(left, stores.tracking_uri))


def _print(status: StudyStatus) -> None:
    counts = ", ".join(f"{number:,} {state}" for state, number in status.states.items())
    best = (
        f"; best {status.monitor} {status.best_value:.4f} ({status.best_label})" if status.best_label else ""
    )
    click.echo(f"{status.name}: {counts or 'no trials'}{best}")
    if status.trouble:
        click.echo(f"  cannot be trained: {status.trouble}")
    if status.states.get("deleted"):
        click.echo(f"  deleted in MLflow: requeue these cells with `lab retry {status.name} --deleted`")
    _print_details(status)


def _print_details(status: StudyStatus) -> None:
    if status.others:
        click.echo(f"  not lab's: ignoring {status.others:,} trials that another program added")
    if status.cancelled:
        click.echo(f"  cancelled: resume with `lab resume {status.name}`")
    if status.out_of_time:
        click.echo(f"  {why_held_back('out_of_time', status.name)}")
    if status.too_many_failures:
        click.echo(f"  {why_held_back('too_many_failures', status.name)}")
    for line in status.engine:
        click.echo(f"  {printable(line)}")
    for trial in status.running:
        value = "" if trial["value"] is None else f", {status.monitor} {trial['value']:.4f}"
        click.echo(
            f"  running  {trial['label']}: epoch {trial['epoch']}/{trial['epochs']}{value}  ({trial['worker']})"
        )
    for trial in status.interrupted:
        last = f"epoch {trial['epoch']}/{trial['epochs']}"
        click.echo(
            f"  interrupted  {trial['label']}: {last}, its worker {trial['worker']} has exited; "
            "the next sweep or worker resumes it"
        )
    for trial in status.failed:
        click.echo(f"  failed   {trial['label']}: {trial['error']}")
