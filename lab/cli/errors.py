"""`lab errors`: where a trained model goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.console import terminal
from lab.cli.messages import browse
from lab.cli.options import store_options, stores_from
from lab.errors import TrackingError
from lab.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from lab.engines import Stores
    from lab.tracking import Tracker
    from lab.training.analysis import ErrorAnalysis

__all__ = ["errors"]


@click.command(
    short_help="Show where a trained model goes wrong.",
    epilog="""\b
Examples:
  lab errors 3f2c           (the beginning of a run's id, as `lab best` shows it)
  lab errors best:quickstart --top 3""",
)
@click.argument("run")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Most classes, the worst first, and most confused pairs to show.",
)
@click.option("--download", is_flag=True, help="Fetch the dataset if it is missing.")
@store_options
def errors(run: str, top: int, download: bool, tracking_uri: str | None, storage: str | None) -> None:
    """Evaluate the model of RUN on its test images again, and show which classes it confuses.

    RUN is the id of a run, or its beginning; models:/NAME/VERSION or best:STUDY.

    Confusion matrices, errors per class and the most confused images are logged to the run, as training does.
    """
    from lab.objective import analyse_run  # seconds of imports
    from lab.restore import find_run

    stores = stores_from(tracking_uri, storage)
    tracker = _tracker(run, stores)
    run_id = find_run(tracker, run)
    analysis = analyse_run(tracker, run_id, download=download)
    scores = f"accuracy {analysis.accuracy:.2%}, macro F1 {analysis.macro_f1:.4f}"
    click.echo(f"{counted(len(analysis.labels), 'test image')}: {scores}")
    terminal().print(_classes(analysis, top))
    pairs = _pairs(analysis, top)
    terminal().print(pairs if pairs.row_count else "No image was misclassified.")
    click.echo(f"Logged to run {run_id}")
    click.echo(browse(stores.tracking_uri, tracker.experiment_of(run_id), run_id))


def _tracker(run: str, stores: Stores) -> Tracker:
    from lab.study import database_exists
    from lab.tracking import connect

    if not database_exists(stores.tracking_uri):
        raise TrackingError(f"There is no run {run}: {stores.tracking_uri} does not exist")
    return connect(stores.tracking_uri, stores.artifact_dir)


def _classes(analysis: ErrorAnalysis, top: int) -> Table:
    tested = [scores for scores in analysis.per_class if scores.images]
    worst = sorted(tested, key=lambda scores: scores.accuracy)[:top]
    left_out = f" (the worst {len(worst)} of {len(tested)})" if len(worst) < len(tested) else ""
    table = _table(f"Classes{left_out}", "class", "images", "errors", "accuracy", "precision", "F1")
    for scores in worst:
        numbers = (f"{scores.accuracy:.2%}", f"{scores.precision:.2%}", f"{scores.f1:.4f}")
        _add_row(table, scores.name, f"{scores.images:,}", f"{scores.errors:,}", *numbers)
    return table


def _pairs(analysis: ErrorAnalysis, top: int) -> Table:
    table = _table("Most confused", "class", "taken for", "images", "share", "surest")
    for pair in analysis.most_confused(top, examples=1):
        true, predicted = (analysis.per_class[label].name for label in (pair.true, pair.predicted))
        surest = f"{pair.examples[0].confidence:.1%}"
        _add_row(table, true, predicted, f"{pair.count:,}", f"{pair.share:.2%}", surest)
    return table


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in ("class", "taken for") else "right")
    return table


def _add_row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*map(Text, cells))  # as Text: a class in brackets is not rich's markup
