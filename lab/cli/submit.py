"""`lab submit`: queues a grid for workers, and trains nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.status import Status

from lab import engines
from lab.cli.experiment import note_experiment
from lab.cli.live import summary
from lab.cli.options import (
    grid_from,
    only_option,
    overrides_option,
    store_options,
    stores_from,
)
from lab.cli.plugin_options import use_option

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.engines import Stores
    from lab.study import Submission

__all__ = ["submit"]


@click.command(
    short_help="Queue every cell of a grid for workers.",
    epilog="""\b
Examples:
  lab submit grids/quickstart.yaml
  lab submit grids/mnist_lr.yaml --set data_dir=/data --only lr=0.01,0.1
  lab submit grids/svhn_transfer.yaml       (and the studies that it needs; they are trained first)
Then train it, here or on any machine that reaches the same stores:
  lab worker
and watch its progress:
  lab watch quickstart

Workers look for data on their own machine; relative paths start from a worker's working directory. Submitting the same
file again queues nothing twice; if cells were added to the file, it queues those.""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@only_option
@overrides_option
@use_option
@store_options
def submit(
    grid: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Queue every cell of GRID that its study does not have yet, for `lab worker` to train.

    It returns once they are queued; nothing is trained.
    """
    loaded = grid_from(grid, overrides, only)
    note_experiment(loaded.name)
    submissions = _submit(loaded, stores_from(tracking_uri, storage))
    for submission in submissions:
        click.echo(summary(submission, engines.progress_of(submission.queue)))
    queue = submissions[-1].queue
    if queue.is_over():
        click.echo(f"Nothing is left to train: lab best {queue.name}")
    else:
        click.echo(f"Train it with: lab worker   (and watch it with: lab watch {queue.name})")


def _submit(grid: Grid, stores: Stores) -> list[Submission]:
    with Status("checking every cell …", console=Console(stderr=True)) as status:
        return engines.submit(  # imported now: that takes seconds, and something is on the screen
            grid,
            stores,
            on_queued=lambda done, total: status.update(f"queueing cells: {done:,} of {total:,}"),
        )
