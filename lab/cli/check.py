"""`lab check`: are grid files valid?"""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.plugin_options import use_option
from lab.wording import counted

__all__ = ["check"]


@click.command(
    short_help="Find every fault in grid files.",
    epilog="""\b
Example:
  lab check grids/*.yaml""",
)
@use_option
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check grid FILES, and report everything that is wrong, with its file, line and key.

    The exit code is 0 if all files are valid, and 2 otherwise.
    """
    for checked in engines.check_grids(files):
        grid, dimensions = checked.grid, counted(len(checked.grid.space.dimensions), "parameter")
        cells = counted(grid.space.size, "cell")
        if grid.search is not None:
            cells = f"a search over {dimensions} in {counted(grid.budget.trials or 0, 'trial')}"
        if checked.trouble:
            click.echo(f"ok  {grid.file}: {cells}, not checked against the data: {checked.trouble}")
        elif grid.search is not None:
            click.echo(f"ok  {grid.file}: {cells}")
        else:
            click.echo(f"ok  {grid.file}: {cells}, {checked.feasible:,} feasible")
