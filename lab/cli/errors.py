"""`lab errors`: where a trained model goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from lab import engines, report
from lab.cli.console import terminal
from lab.cli.messages import browse
from lab.cli.options import store_options, stores_from
from lab.cli.plugin_options import use_option
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import AnalysedRun
    from lab.training import ErrorAnalysis

__all__ = ["errors"]


@click.command(
    short_help="Show where a trained model goes wrong.",
    epilog="""\b
Examples:
  lab errors 3f2c           (the start of a run id, as shown by `lab best`)
  lab errors best:quickstart --top 3""",
)
@click.argument("run")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Maximum number of classes and of confused pairs to show, worst first.",
)
@click.option("--download", is_flag=True, help="Download the dataset if it is missing.")
@use_option
@store_options
def errors(run: str, top: int, download: bool, tracking_uri: str | None, storage: str | None) -> None:
    """Evaluate the model of RUN on its test images again, and show which classes it confuses.

    RUN is a run id or the start of one, models:/NAME/VERSION, or best:STUDY.

    Confusion matrices, errors by class, the most confused images and the predictions are logged to the run, as after
    training. A pruned trial is tested for the first time, and gets its model too. The accuracy has
    Wilson's interval, which reflects the number of test images.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.analyse_stored_run(run, stores, download=download)
    analysis = found.analysis
    low, high = report.accuracy_interval(analysis.correct, len(analysis.labels))
    scores = f"accuracy {analysis.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
    scores += f", macro F1 {analysis.macro_f1:.4f}"
    scores += "".join(f", {name} {value:.4f}" for name, value in analysis.chosen.items())
    click.echo(f"{counted(len(analysis.labels), 'test image')}: {scores}")
    terminal().print(_classes(found, top))
    pairs = _pairs(analysis, top)
    terminal().print(pairs if pairs.row_count else "No image was misclassified.")
    click.echo(f"Logged to run {found.run_id}")
    click.echo(browse(stores.tracking_uri, found.experiment, found.run_id))


def _classes(found: AnalysedRun, top: int) -> Table:
    tested, worst = found.worst_classes, found.worst_classes[:top]
    left_out = f" (the worst {len(worst)} of {len(tested)})" if len(worst) < len(tested) else ""
    table = _table(f"Classes{left_out}", "class", "images", "errors", "accuracy", "precision", "F1")
    for scores in worst:
        numbers = (f"{scores.accuracy:.2%}", f"{scores.precision:.2%}", f"{scores.f1:.4f}")
        _add_row(table, scores.name, f"{scores.images:,}", f"{scores.errors:,}", *numbers)
    return table


def _pairs(analysis: ErrorAnalysis, top: int) -> Table:
    table = _table("Most confused", "class", "taken for", "images", "share", "highest confidence")
    for pair in analysis.most_confused(top, examples=1):
        true, predicted = (analysis.per_class[label].name for label in (pair.true, pair.predicted))
        confidence = f"{pair.examples[0].confidence:.1%}"
        _add_row(table, true, predicted, f"{pair.count:,}", f"{pair.share:.2%}", confidence)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in ("class", "taken for") else "right")
    return table


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # as Text, so that a class name in brackets is not taken for markup
