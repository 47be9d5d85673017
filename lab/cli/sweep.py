"""`lab sweep`: all cells of a grid, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.cli.options import overrides_option, parse_overrides, store_options, stores_from
from lab.cli.signals import stop_on_signals
from lab.config import load_grid

if TYPE_CHECKING:
    from lab.engines import SweepResult

__all__ = ["sweep"]


@click.command(
    epilog="""\b
Examples:
  lab sweep grids/quickstart.yaml
  lab sweep grids/cifar10_models.yaml --set data_dir=photos --set epochs=3
  lab sweep grids/quickstart.yaml --workers 1 --tracking-uri http://127.0.0.1:5000

The same command again continues a study: finished cells are left alone, interrupted ones go on from
their checkpoints, and cells that the file has gained are added."""
)
@click.argument("grid", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes to train with.  [default: one a core, or one a GPU]",
)
@click.option("--download", is_flag=True, help="Fetch the dataset if it is missing.")
@click.option("--retry-failed", is_flag=True, help="Also train again the cells that failed before.")
@overrides_option
@store_options
def sweep(
    grid: Path,
    workers: int | None,
    download: bool,
    retry_failed: bool,
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Train every cell of GRID that its study has not trained yet, and track each in MLflow.

    Ctrl-C stops in good order: running trials checkpoint and are put back.
    The exit code is 0 when every cell is done, 1 when some failed, 130 after Ctrl-C.
    """
    loaded = load_grid(grid, parse_overrides(overrides))
    stores = stores_from(tracking_uri, storage)
    with stop_on_signals(
        "Stopping: running trials checkpoint and are put back. Ctrl-C again ends at once."
    ) as stop:
        from lab.cli.live import SweepDisplay
        from lab.engines import sweep as sweep_grid

        with SweepDisplay() as display:
            try:
                result = sweep_grid(
                    loaded,
                    stores,
                    workers=workers,
                    download=download,
                    retry_failed=retry_failed,
                    on_plan=display.planned,
                    on_queued=display.queued,
                    on_progress=display.update,
                    should_stop=stop,
                )
            except KeyboardInterrupt:
                sys.exit(stop.exit_code)
    _print_result(result, stores.tracking_uri, f"lab sweep {grid}")
    sys.exit(stop.exit_code if result.ending == "stopped" else 1 if result.failed else 0)


def _print_result(result: SweepResult, tracking_uri: str, again: str) -> None:
    from rich.console import Console

    from lab.cli.messages import browse
    from lab.report import render

    if not result.leaderboard.empty:
        Console().print(render(result.leaderboard.head(15), title=result.study))
    counts = ", ".join(f"{number} {state}" for state, number in sorted(result.states.items()))
    click.echo(f"{result.study}: {counts}")
    if result.failed:
        click.echo(f"Failed cells keep their traceback in MLflow; `{again} --retry-failed` tries them again")
    if result.ending != "done":
        click.echo(f"Continue with: {again}")
    click.echo(browse(tracking_uri))
