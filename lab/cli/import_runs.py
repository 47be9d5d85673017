"""`lab import`: runs of other programs, to be read next to one's own."""

from __future__ import annotations

import click

from lab import engines
from lab.cli.options import store_options, stores_from
from lab.wording import counted

__all__ = ["import_runs"]


@click.command(
    "import",
    short_help="Import runs of Optuna, MLflow, W&B or Neptune, to compare with.",
    epilog="""\b
Examples:
  lab import optuna:sqlite:///theirs.db#tuning
  lab import runs.csv --monitor test_accuracy
  lab import runs.jsonl --monitor accuracy
  lab import wandb.csv --name theirs --metric accuracy --metric loss --monitor loss --minimize""",
)
@click.argument("source")
@click.option("--name", help="Name of the study here.  [default: that of SOURCE]")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="COLUMN",
    help="Column of the file that is a metric. May be repeated.",
)
@click.option("--monitor", metavar="METRIC", help="Metric of the file by which to compare the runs.")
@click.option(
    "--percent",
    multiple=True,
    metavar="METRIC",
    help="Metric in percent, such as an accuracy of 93.1: its values are divided by 100. May be repeated.",
)
@click.option("--minimize", is_flag=True, help="Lower values of the monitored metric are better.")
@store_options
def import_runs(
    source: str,
    name: str | None,
    metrics: tuple[str, ...],
    monitor: str | None,
    percent: tuple[str, ...],
    minimize: bool,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Import the runs of another program, which `lab best`, `effects`, `compare` and `export` then read.

    SOURCE is optuna:URL#STUDY (a database of plain Optuna; #STUDY may be left out if there is one), a CSV file with
    a row for each run, as MLflow, lab, Neptune and W&B export it, or JSON with an object for each run, one per line
    (.jsonl) or in a list (.json). SOURCE is only read. Importing again adds what is new. Imported runs cannot be
    trained. Accuracies above 1 are refused unless --percent names them.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.import_runs(
        source,
        stores,
        name=name,
        metrics=metrics,
        monitor=monitor,
        maximize=not minimize,
        percent=percent,
    )
    click.echo(f"{found.study}: {counted(found.added, 'run')} imported, {found.known:,} already here")
    click.echo(f"Read them: lab best {found.study}")
