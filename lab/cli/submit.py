"""`lab submit`: queues a grid for workers, and trains nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.cli.experiment import note_experiment
from lab.cli.options import (
    only_option,
    overrides_option,
    parse_only,
    parse_overrides,
    store_options,
    stores_from,
)
from lab.config import load_grid

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
and look how it goes:
  lab watch quickstart

Data is looked for where a worker runs, relative paths in its working directory. The same file again queues
nothing twice, a grown one only its new cells.""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@only_option
@overrides_option
@store_options
def submit(
    grid: Path,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Queue every cell of GRID that its study does not have yet, for `lab worker` to train, and return."""
    loaded = load_grid(grid, parse_overrides(overrides), parse_only(only))
    note_experiment(loaded.name)
    submissions = _submit(loaded, stores_from(tracking_uri, storage))
    for submission in submissions:
        _print(submission)
    name = submissions[-1].queue.name
    if not submissions[-1].queue.is_over():
        click.echo(f"Train it with: lab worker   (and look with: lab watch {name})")
    else:
        click.echo(f"Nothing is left to train: lab best {name}")


def _submit(grid: Grid, stores: Stores) -> list[Submission]:
    from rich.console import Console
    from rich.status import Status

    console = Console(stderr=True)
    with Status("checking every cell …", console=console) as status:
        from lab.engines import submit as submit_grid  # takes seconds, after something is on the screen

        return submit_grid(
            grid,
            stores,
            on_queued=lambda done, total: status.update(f"queueing cells: {done:,} of {total:,}"),
        )


def _print(submission: Submission) -> None:
    from lab.cli.live import summary
    from lab.engines.watching import progress_of

    click.echo(summary(submission, progress_of(submission.queue)))
