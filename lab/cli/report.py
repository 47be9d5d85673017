"""`lab report`: a study as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.options import complete_study, store_options, stores_from

__all__ = ["report"]


@click.command(
    short_help="Write a report of a study as one HTML file.",
    epilog="""\b
Examples:
  lab report quickstart
  lab report quickstart quickstart_search --out reports/digits.html""",
)
@click.argument("studies", metavar="STUDY...", nargs=-1, required=True, shell_complete=complete_study)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File to write.",
)
@store_options
def report(studies: tuple[str, ...], out: Path, tracking_uri: str | None, storage: str | None) -> None:
    """Write a report of each STUDY to one HTML file that opens without a network and can be sent to others.

    It has the question and the answer in a sentence, a leaderboard to sort and filter, what mattered, slices and heat
    maps of the grid, learning curves, accuracy against what it costs, the best model's mistakes, failures and why, time
    and cost, and the command that trains each row again. Several studies also have a leaderboard together, if they are
    ranked by the same metric.

    The report is also kept with the study's run, as report.html, where the MLflow UI shows it. A sweep makes it at its
    end, except for studies of so many trials that it would take more than two seconds.
    """
    troubles = engines.write_report(studies, stores_from(tracking_uri, storage), out)
    click.echo(f"Wrote {out}")
    for study, trouble in troubles.items():
        click.echo(f"Not kept with the run of {study}: {trouble}", err=True)
