"""`lab doctor`: is everything all right?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lab import upkeep
from lab.cli.console import terminal
from lab.cli.options import format_option, store_options, stores_from

if TYPE_CHECKING:
    from lab.upkeep import Finding

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@click.command(
    short_help="Check the stores and this machine, and say how to fix any problem.",
    epilog="""\b
Examples:
  lab doctor
  lab doctor --tracking-uri http://mlflow:5000 --storage postgresql://lab@db/lab
  lab doctor --format json | jq '.[] | select(.verdict != "ok")'
  docker compose exec worker lab doctor          (from inside a container)
  lab doctor && lab worker                       (start a worker only if no check failed)

A failed check stops trials now; a warning may become one later. The last column says how to fix it. Nothing is created,
migrated or changed, and no password is shown. Each store has 20 seconds to answer.""",
)
@format_option("table", "json")
@store_options
def doctor(form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Check versions, both stores, artifacts, clocks, disks, GPUs, undelivered journals and stale trials.

    The exit code is 0 if nothing failed, and 1 otherwise.
    """
    findings = _findings(tracking_uri, storage)
    if form == "json":
        found = list(findings)
        click.echo(json.dumps([finding.as_dict() for finding in found], indent=2))
    else:
        found = _print(findings)
    sys.exit(any(finding.verdict == "failed" for finding in found))


def _findings(tracking_uri: str | None, storage: str | None) -> Iterator[Finding]:
    stores = stores_from(tracking_uri, storage, only_look=True)
    with Console(stderr=True).status("checking …"):
        findings = upkeep.examine(stores)  # the import takes seconds
    yield from findings


def _print(findings: Iterator[Finding]) -> list[Finding]:
    """Print the findings, on a terminal as they arrive; return them."""
    console = terminal()
    found: list[Finding] = []
    if not console.is_terminal:
        found = list(findings)
        console.print(_table(found))
        return found
    with Live(console=console, vertical_overflow="visible") as live:
        for finding in findings:
            found.append(finding)
            live.update(_table(found))
    return found


def _table(findings: list[Finding]) -> Table:
    table = Table(title="Checks", title_justify="left")
    for name in ("check", "verdict", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        verdict = Text(finding.verdict, style=_COLOURS[finding.verdict])
        table.add_row(Text(finding.check), verdict, Text(finding.found), Text(finding.mend))
    return table
