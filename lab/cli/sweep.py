"""`lab sweep`: every cell of a grid, on this machine or on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.status import Status

from lab import engines, report
from lab.cli.again import command_line
from lab.cli.console import terminal
from lab.cli.engine_options import engine_options, profile_from
from lab.cli.experiment import note_experiment
from lab.cli.live import STOPPING, SweepDisplay, summary
from lab.cli.messages import browse, tell_left_out, undelivered
from lab.cli.options import (
    grid_from,
    only_option,
    overrides_option,
    store_options,
    stores_from,
)
from lab.cli.outer_run import InRun, join_outer_run
from lab.cli.plugin_options import use_option
from lab.cli.signals import SignalStop, stop_on_signals
from lab.tracking import RunStatus
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.engines import Profile, Progress, Stores, SweepResult
    from lab.study import Submission

__all__ = ["sweep"]

_ROWS = 15  # of the leaderboard that are printed


@click.command(
    cls=InRun,
    short_help="Train every cell of a grid.",
    epilog="""\b
Examples:
  lab sweep grids/quickstart.yaml
  lab sweep grids/cifar10_models.yaml --set data_dir=photos --set epochs=3
  lab sweep grids/quickstart.yaml --workers 1 --tracking-uri http://127.0.0.1:5000
  lab sweep grids/mnist_lr.yaml --gpu-memory 2GB     (as many trials at once as each GPU has room for)
  lab sweep grids/svhn_transfer.yaml                 (after the studies that it needs)
On a cluster, once its machines can reach the stores (lab serve --host NAME):
  lab sweep grids/quickstart.yaml --on slurm --workers 8 --gpus-per-worker 1 --time 4h --partition gpu
  lab sweep grids/quickstart.yaml --on slurm --workers 8 --job cpus_per_task=4 --job 'setup=module load cuda'
  lab sweep grids/quickstart.yaml --on slurm --workers 8 --time 4h --detach     (does not stay to watch)
  lab sweep grids/quickstart.yaml --on ray --workers 8 --gpus-per-worker 0.5 --address ray://head:10001
  lab sweep grids/quickstart.yaml --on gpu           (a profile; lab.yaml has a line such as
      gpu: {engine: slurm, partition: gpu, time: 4h, workers: 8, gpus_per_worker: 1, setup: [module load cuda]})

Run the same command again to resume a study: completed cells are skipped, interrupted ones resume from their
checkpoints, and cells added to the file are queued.

With --workers-per-gpu or --gpu-memory, several workers share a GPU. A trial that runs out of memory on a shared
GPU is retried with a GPU to itself before it fails.""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@engine_options
@click.option(
    "--detach",
    is_flag=True,
    help="Queue the cells, submit the jobs and return; the jobs finish the study on their own. Only with Slurm.",
)
@click.option(
    "--download", is_flag=True, help="Download the dataset and pretrained weights if they are missing."
)
@click.option("--retry-failed", is_flag=True, help="Also retry cells that failed before.")
@only_option
@overrides_option
@use_option
@store_options
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    grid: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
    detach: bool,
    **options: Any,
) -> None:
    """Train every cell of GRID that its study has not trained yet, and track each in MLflow.

    Ctrl-C stops cleanly: running trials checkpoint and return to the queue, and jobs of a cluster are cancelled.
    The exit code is 0 if every cell is done, 1 if some failed or the study was cancelled, and 130 after Ctrl-C.
    """
    profile = profile_from(options)
    loaded = grid_from(grid, overrides, only)
    stores = stores_from(tracking_uri, storage)
    note_experiment(loaded.name)
    if detach:
        _detach(loaded, stores, profile, **options)
        return
    with stop_on_signals("" if terminal().is_terminal else STOPPING) as stop:
        try:
            result = _sweep(loaded, stores, profile, stop, **options)
        except KeyboardInterrupt:
            click.echo(f"Continue with: {_again(ctx)}")
            sys.exit(stop.exit_code)
    _print_result(result, stores.tracking_uri, _again(ctx))
    if result.ending == "stopped":
        sys.exit(stop.exit_code)
    sys.exit(1 if result.failed or result.ending == "cancelled" else 0)


def _again(ctx: click.Context) -> str:
    return command_line(ctx, only={param.name or "" for param in ctx.command.params} - {"retry_failed"})


def _sweep(grid: Grid, stores: Stores, profile: Profile, stop: SignalStop, **options: Any) -> SweepResult:
    with SweepDisplay(stop) as display:
        if profile.engine == "local":
            engines.fork_server()
        outer = engines.OuterSweep(stores.tracking_uri, join_outer_run(stores))

        def planned(submission: Submission, progress: Progress) -> None:
            outer.link(progress.study, submission.run)
            display.planned(submission, progress)

        try:
            result = engines.sweep(  # imported now: that takes seconds, and something is on the screen
                grid,
                stores,
                on_data=lambda dataset: display.data(dataset.notes),
                on_plan=planned,
                on_queued=display.queued,
                on_progress=display.update,
                should_stop=stop,
                **engines.place(profile, stores),
                **options,
            )
        except KeyboardInterrupt:
            outer.end(RunStatus.KILLED)
            raise
        outer.end(result.status)
    return result


def _detach(grid: Grid, stores: Stores, profile: Profile, **options: Any) -> None:
    with Status("checking every cell and the data …", console=Console(stderr=True)) as status:
        detached = engines.detach(  # imported now: that takes seconds, and something is on the screen
            grid,
            stores,
            profile,
            on_queued=lambda done, total: status.update(f"queueing cells: {done:,} of {total:,}"),
            **options,
        )
    for submission in detached.submissions:
        click.echo(summary(submission, engines.progress_of(submission.queue)))
    name = detached.submissions[-1].queue.name
    if not detached.jobs:
        click.echo(f"Nothing is left to train: lab best {name}")
        return
    jobs = ",".join(detached.arrays)  # as squeue takes them
    click.echo(f"Slurm job {jobs}: {counted(len(detached.jobs), 'worker')}")
    click.echo(f"Watch it with: lab watch {name}   (or look once: lab status {name}, squeue --job {jobs})")
    click.echo(f"Stop it with: lab cancel {name}   (trials checkpoint and return to the queue; the jobs end)")


def _print_result(result: SweepResult, tracking_uri: str, again: str) -> None:
    board = result.leaderboard
    if not board.empty:
        terminal().print(report.render(board.head(_ROWS), title=result.study))
    if len(board) > _ROWS:
        click.echo(f"{counted(len(board) - _ROWS, 'more trial')}: lab best {result.study} --top {len(board)}")
    tell_left_out(board, f"lab best {result.study}")
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(result.states.items()))
    click.echo(f"{result.study}: {counts}")
    if result.failed:
        click.echo(f"Tracebacks of failed cells are in MLflow; retry them with: {again} --retry-failed")
    if result.ending == "cancelled":
        click.echo(f"The study was cancelled; resume it with: lab resume {result.study}")
    if result.ending == "out_of_time":
        click.echo("The study's time is up (budget.seconds); the same command gives it that time again")
    if result.ending == "too_many_failures":
        click.echo(
            f"No more cells start: too many failed (max_failures); `lab resume {result.study}` or the same command "
            "lets as many fail again"
        )
    if result.ending != "done":
        click.echo(f"Continue with: {again}")
    if result.trouble:
        again_makes = " Run the same command again to make it" if result.waits else ""
        click.echo(f"No leaderboard: {result.trouble}{again_makes}", err=True)
    if result.left:
        click.echo(undelivered(result.left, tracking_uri), err=True)
    click.echo(browse(tracking_uri, result.experiment))
