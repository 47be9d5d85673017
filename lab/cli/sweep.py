"""`lab sweep`: all cells of a grid, on this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.cli.again import command_line
from lab.cli.best import tell_left_out
from lab.cli.console import terminal
from lab.cli.experiment import note_experiment
from lab.cli.live import STOPPING, SweepDisplay
from lab.cli.options import (
    only_option,
    overrides_option,
    parse_only,
    parse_overrides,
    store_options,
    stores_from,
)
from lab.cli.outer_run import InRun, open_outer_run, outer_run_id
from lab.cli.signals import Stop, stop_on_signals
from lab.config import load_grid
from lab.tracking import RunStatus
from lab.tracking.tags import Tag
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.engines import Progress, Stores, SweepResult
    from lab.study import Submission
    from lab.tracking import Run

__all__ = ["sweep"]

_ROWS = 15  # of the leaderboard
_OUTCOMES = {RunStatus.FINISHED: "completed", RunStatus.FAILED: "failed", RunStatus.KILLED: "killed"}


@click.command(
    cls=InRun,
    short_help="Train every cell of a grid.",
    epilog="""\b
Examples:
  lab sweep grids/quickstart.yaml
  lab sweep grids/cifar10_models.yaml --set data_dir=photos --set epochs=3
  lab sweep grids/quickstart.yaml --workers 1 --tracking-uri http://127.0.0.1:5000
  lab sweep grids/svhn_transfer.yaml        (and before it the studies that it needs)

The same command again continues a study: finished cells are left alone, interrupted ones go on from
their checkpoints, and cells that the file has gained are added.""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes to train with.  [default: one a core, or one a GPU]",
)
@click.option("--download", is_flag=True, help="Fetch the dataset if it is missing.")
@click.option("--retry-failed", is_flag=True, help="Also train again the cells that failed before.")
@only_option
@overrides_option
@store_options
@click.pass_context
def sweep(
    ctx: click.Context,
    grid: Path,
    workers: int | None,
    download: bool,
    retry_failed: bool,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Train every cell of GRID that its study has not trained yet, and track each in MLflow.

    Ctrl-C stops in good order: running trials checkpoint and are put back.
    The exit code is 0 when every cell is done, 1 when some failed or the study was cancelled, 130 after Ctrl-C.
    """
    loaded = load_grid(grid, parse_overrides(overrides), parse_only(only))
    stores = stores_from(tracking_uri, storage)
    note_experiment(loaded.name)
    with stop_on_signals("" if terminal().is_terminal else STOPPING) as stop:
        try:
            result = _sweep(
                loaded, stores, stop, workers=workers, download=download, retry_failed=retry_failed
            )
        except KeyboardInterrupt:
            click.echo(f"Continue with: {_again(ctx)}")
            sys.exit(stop.exit_code)
    _print_result(result, stores.tracking_uri, _again(ctx))
    sys.exit(
        stop.exit_code
        if result.ending == "stopped"
        else 1
        if result.failed or result.ending == "cancelled"
        else 0
    )


def _again(ctx: click.Context) -> str:
    return command_line(ctx, only={param.name or "" for param in ctx.command.params} - {"retry_failed"})


def _sweep(grid: Grid, stores: Stores, stop: Stop, **options: Any) -> SweepResult:
    with SweepDisplay(stop) as display:
        from lab.engines import sweep as sweep_grid  # takes seconds, after something is on the screen

        outer = _OuterRun(stores.tracking_uri, outer_run_id(stores.tracking_uri))

        def planned(submission: Submission, progress: Progress) -> None:
            outer.link(progress.study, submission.run)
            display.planned(submission, progress)

        try:
            result = sweep_grid(
                grid,
                stores,
                on_data=lambda dataset: display.data(dataset.notes),
                on_plan=planned,
                on_queued=display.queued,
                on_progress=display.update,
                should_stop=stop,
                **options,
            )
        except KeyboardInterrupt:
            outer.end(RunStatus.KILLED)
            raise
        outer.end(result.status)
    return result


@dataclass
class _OuterRun:
    """The run of `mlflow run . -e sweep`: it says which study it swept, and is neither a trial nor the study."""

    tracking_uri: str
    run_id: str | None
    run: Run | None = None

    def link(self, study: str, parent: Run) -> None:
        """Name the study and its run."""
        if self.run_id is None:
            return
        note = f"A sweep of the study **{study}**; its trials are under the run `{parent.run_id}`."
        tags = {Tag.KIND: "sweep", Tag.STUDY: study, Tag.STUDY_RUN: parent.run_id}
        tags[Tag.NOTE] = note
        self.run = open_outer_run(self.tracking_uri, self.run_id, tags)

    def end(self, status: RunStatus) -> None:
        """Close it; `mlflow run` turns KILLED into FAILED (as of 3.17), so the outcome is also a tag."""
        if self.run is not None:
            self.run.set_tags({Tag.OUTCOME: _OUTCOMES[status]})
            self.run.end(status)


def _print_result(result: SweepResult, tracking_uri: str, again: str) -> None:
    from lab.cli.messages import browse, undelivered
    from lab.report import render

    board = result.leaderboard
    if not board.empty:
        terminal().print(render(board.head(_ROWS), title=result.study))
    if len(board) > _ROWS:
        click.echo(f"{counted(len(board) - _ROWS, 'more trial')}: lab best {result.study} --top {len(board)}")
    tell_left_out(board, f"lab best {result.study}")
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(result.states.items()))
    click.echo(f"{result.study}: {counts}")
    if result.failed:
        click.echo(f"Failed cells keep their traceback in MLflow; `{again} --retry-failed` tries them again")
    if result.ending == "cancelled":
        click.echo(f"It was cancelled; let it go on with: lab resume {result.study}")
    if result.ending != "done":
        click.echo(f"Continue with: {again}")
    if result.trouble:
        again_makes = " The same command again makes it" if result.waits else ""
        click.echo(f"No leaderboard: {result.trouble}{again_makes}", err=True)
    if result.left:
        click.echo(undelivered(result.left, tracking_uri), err=True)
    click.echo(browse(tracking_uri, result.experiment))
