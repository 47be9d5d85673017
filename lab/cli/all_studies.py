"""All studies in one table: what `lab list` shows, and `lab status` without a study."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.table import Table

from lab import report, study
from lab.cli.console import terminal
from lab.errors import printable

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.study import StudySummary

__all__ = ["show_all"]


def show_all(stores: Stores, form: str) -> None:
    """Print every study of a database, as a `table`, `csv` or `json`."""
    found = study.overview(stores.storage)
    if form == "json":
        click.echo(json.dumps([one.as_dict() for one in found.studies], indent=2))
    elif form == "csv":
        click.echo(_csv(found.studies), nl=False)
    else:
        _print(found.studies)
        if found.others:
            click.echo(f"not lab's: {', '.join(map(printable, found.others))}")


def _csv(studies: Sequence[StudySummary]) -> str:
    text = io.StringIO()
    columns = [key for key in study.StudySummary.__dataclass_fields__ if key != "states"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.as_dict() for one in studies)
    return text.getvalue()


def _print(studies: Sequence[StudySummary]) -> None:
    if not studies:
        click.echo("No studies yet: `lab sweep GRID` creates one")
        return
    table, now = Table(box=None, padding=(0, 2, 0, 0)), datetime.now(UTC)
    for heading in ("study", "state", "done", "failed", "best", "active"):
        table.add_column(heading, justify="right" if heading in ("done", "failed") else "left")
    for one in studies:
        best = "–" if one.best_value is None else f"{one.monitor} {one.best_value:.4f}"
        active = report.ago((now - one.active).total_seconds()) if one.active else "never"
        failed = f"{one.failed:,}" if one.failed else "–"
        table.add_row(one.name, str(one.state), f"{one.done:,}/{one.total:,}", failed, best, active)
    terminal().print(table)
    for one in studies:
        if one.trouble:
            click.echo(f"{one.name}: {one.trouble}")
