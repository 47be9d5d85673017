"""`lab diff`: what differs between two runs."""

from __future__ import annotations

from dataclasses import asdict

import click

from lab import engines, report
from lab.cli.console import plain_json, terminal
from lab.cli.options import format_option, store_options, stores_from

__all__ = ["diff"]


@click.command(
    short_help="Show what differs between two runs.",
    epilog="""\b
Examples:
  lab diff 3f2c 81d0
  lab diff best:baseline best:augmented""",
)
@click.argument("a", metavar="RUN")
@click.argument("b", metavar="RUN")
@format_option("table", "json")
@store_options
def diff(a: str, b: str, form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show in which settings, code, data, versions and results two runs differ.

    RUN is a run id or the start of one, models:/NAME/VERSION, or best:STUDY.
    """
    found = engines.diff_runs(a, b, stores_from(tracking_uri, storage))
    if form == "json":
        click.echo(plain_json(asdict(found)))
        return
    if found.is_empty:
        click.echo("Settings, code, data and versions are the same.")
    terminal().print(report.render_run_difference(found))
