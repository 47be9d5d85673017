"""`lab priority`: which studies go first."""

from __future__ import annotations

import click

from lab import study
from lab.cli.options import store_options, stores_from, study_argument

__all__ = ["priority"]

_MOST = 1000


@click.command(
    short_help="Let workers take a study before others, or after them.",
    context_settings={"ignore_unknown_options": True},  # -5 is a number
    epilog="""\b
Examples:
  lab priority quickstart 10     (before all others)
  lab priority quickstart -1     (when nothing else waits)
  lab priority quickstart 0      (as at first)""",
)
@study_argument()
@click.argument("number", metavar="N", type=click.IntRange(-_MOST, _MOST))
@store_options
def priority(name: str, number: int, tracking_uri: str | None, storage: str | None) -> None:
    """Set the priority of STUDY: workers of several studies take those with the highest one first.

    Trials that are running are trained to their end; after each, a worker looks for a study of higher priority. A study
    has the priority 0 unless `priority` in its grid file, or this command, says otherwise.
    """
    queue = study.existing_study(stores_from(tracking_uri, storage).storage, name)
    before = queue.priority()
    queue.note(study.StudyKey.PRIORITY, number)
    click.echo(f"{name}: priority {number}, {before} before")
