"""`lab check`: are grid files right?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.config import load_grid
from lab.errors import ConfigError, Fault, LabError
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid

__all__ = ["check"]


@click.command(
    short_help="Find every fault of grid files.",
    epilog="""\b
Example:
  lab check grids/*.yaml""",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check grid FILES, and tell everything that is wrong with file, line and key.

    The exit code is 0 when all are right and 2 otherwise.
    """
    faults: list[Fault] = []
    for file in files:
        try:
            click.echo(_verdict(load_grid(file)))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)


def _verdict(grid: Grid) -> str:
    """Return one line on a grid whose cells can all be trained.

    Raises:
        ConfigError: cells that cannot.
    """
    from lab.study import feasible_cells

    searched = (
        f"a search of {counted(len(grid.space.dimensions), 'parameter')}"
        f" in {counted(grid.budget.trials or 0, 'trial')}"
    )
    try:
        feasible = len(feasible_cells(grid))
    except ConfigError:
        raise
    except LabError as error:  # an image folder that is not here says nothing about the file
        what = counted(grid.space.size, "cell") if grid.search is None else searched
        return f"ok  {grid.file}: {what}, not checked against the data: {error}"
    if grid.search is not None:
        return f"ok  {grid.file}: {searched}"
    return f"ok  {grid.file}: {counted(grid.space.size, 'cell')}, {feasible:,} feasible"
