"""`lab best`: what won."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab import engines, report
from lab.cli.console import frame_json, terminal
from lab.cli.messages import tell_left_out, unclear
from lab.cli.options import all_option, format_option, store_options, stores_from, study_argument
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import StudyBoard

__all__ = ["best"]


@click.command(
    short_help="Show the leaderboard of a study.",
    epilog="""\b
Examples:
  lab best quickstart
  lab best quickstart --metric test_accuracy --top 3
  lab best quickstart --each                (one row for each repeat of a cell)
  lab best quickstart --all                 (include trials from earlier files or with other settings)
  lab best quickstart --format csv > leaderboard.csv""",
)
@study_argument()
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Maximum number of rows to show, in CSV and JSON too.",
)
@click.option("--metric", default="best_value", show_default=True, help="Metric to rank by.")
@click.option("--each", is_flag=True, help="Show every trial instead of the mean over each cell's repeats.")
@all_option
@format_option("table", "csv", "json")
@store_options
def best(
    name: str,
    top: int,
    metric: str,
    each: bool,
    everything: bool,
    form: str,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Show the leaderboard of STUDY, and how to load its best model.

    It covers the cells of the grid file that was last swept or submitted, including its --set values. Cells that are
    repeated with several seeds are ranked by their mean, shown with its 95 % confidence interval.
    """
    stores = stores_from(tracking_uri, storage)
    board = engines.study_board(
        name,
        stores,
        metric,
        top=top,
        repeats="each" if each else "mean",
        of="all" if everything else "newest",
    )
    if form == "csv":
        click.echo(report.without_formulas(board.frame).to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame_json(board.frame))
    else:
        _print(board, stores.tracking_uri)
    if board.cut:
        rows = counted(board.cut, "further row")
        click.echo(f"Not shown: {rows}; --top {top + board.cut} shows all", err=form != "table")
    tell_left_out(board.frame, f"lab best {name}", err=form != "table")


def _print(board: StudyBoard, tracking_uri: str) -> None:
    if board.frame.empty:
        click.echo(_nothing(board))
    else:
        terminal().print(report.render(board.frame, title=board.study))
    if board.best_run is not None:
        click.echo("Load the best model:")
        click.echo(f"  mlflow.set_tracking_uri('{engines.public_address(tracking_uri)}')")
        click.echo(f"  model = mlflow.pytorch.load_model('runs:/{board.best_run}/model')")
        click.echo("  logits = model(images)  # float32 [B, C, H, W] in 0..1; no .eval() needed")
        click.echo(f"Or classify pictures with it: lab predict {board.best_run} IMAGE…")
    _print_missing(board)


def _nothing(board: StudyBoard) -> str:
    """Return why a leaderboard is empty."""
    if board.deleted:
        return f"No trial of {board.study} has a run left"
    newest = " with the settings of its newest file" if board.frame.attrs["left_out"] else ""
    return f"No trial of {board.study}{newest} has started yet"


def _print_missing(board: StudyBoard) -> None:
    """Print which runs have no trial, and which trials have no run."""
    orphans = board.frame.attrs.get("orphans", 0)
    if orphans:
        runs = counted(orphans, "run belongs", "runs belong")
        click.echo(
            f"Left out: {runs} to no trial of this study, but perhaps to a deleted study of the same name"
        )
    if board.deleted:
        cells = counted(board.deleted, "cell whose run was deleted", "cells whose runs were deleted")
        click.echo(f"Left out: {cells}; `lab retry {board.study} --deleted` requeues such cells")
    if board.trouble:
        click.echo(unclear(board.trouble), err=True)
