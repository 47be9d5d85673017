"""`lab note`: a note on a run or a study, which its page in the MLflow UI shows."""

from __future__ import annotations

import click

from lab import engines
from lab.cli.messages import browse
from lab.cli.options import run_or_study_argument, store_options, stores_from

__all__ = ["note"]


@click.command(
    short_help="Write a note on a run or a study.",
    epilog="""\b
Examples:
  lab note best:quickstart "Used in the talk of 3 May."
  lab note quickstart "$(cat findings.md)"
  lab note quickstart ""                   (removes the note)""",
)
@run_or_study_argument
@click.argument("text")
@store_options
def note(name: str, text: str, tracking_uri: str | None, storage: str | None) -> None:
    """Write TEXT on a run, or on the run of a study; it replaces the note that was there.

    NAME is a study; or a run: its id or the start of it, models:/NAME/VERSION, or best:STUDY. TEXT is Markdown. The
    run's page in the MLflow UI shows it as the description. A study's `description` never replaces your note.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.note(name, stores, text.strip())
    click.echo(f"{found.what}: {'noted' if text.strip() else 'note removed'}")
    click.echo(browse(stores.tracking_uri, found.experiment, found.run_id))
