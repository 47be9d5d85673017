"""`lab list`: all studies."""

from __future__ import annotations

import click

from lab.cli.all_studies import show_all
from lab.cli.options import format_option, store_options, stores_from

__all__ = ["list_studies"]


@click.command(
    "list",
    short_help="List all studies.",
    epilog="""\b
Examples:
  lab list
  lab list --format csv > studies.csv
  lab list --format json | jq -r '.[] | select(.state == "done") | .name'""",
)
@format_option("table", "csv", "json")
@store_options
def list_studies(form: str, tracking_uri: str | None, storage: str | None) -> None:
    """List all studies: state, cells trained out of all cells, best value of the monitored metric, when last active.

    The states: running, waiting (for a worker), interrupted (its workers died; the next sweep or worker goes on),
    stopped (its time is up, or too many cells failed), cancelled, done, failed (it is over, and some cells failed),
    empty, broken. `lab status STUDY` says more about one.
    """
    show_all(stores_from(tracking_uri, storage), form)
