"""Are grid files valid? No store is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.config import Grid, load_grid
from lab.errors import ConfigError, Fault, LabError
from lab.study import feasible_cells

__all__ = ["CheckedGrid", "check_grids"]


@dataclass(frozen=True)
class CheckedGrid:
    """A valid grid file with how many of its cells are feasible; `trouble` is why that could not be checked."""

    grid: Grid
    feasible: int
    trouble: str = ""


def check_grids(files: Iterable[Path]) -> Iterator[CheckedGrid]:
    """Check grid files; yield those that are valid as they are found.

    Args:
        files: of the grids.

    Raises:
        ConfigError: after the last file, all faults of all files.
    """
    faults: list[Fault] = []
    for file in files:
        try:
            yield _checked(load_grid(file))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)


def _checked(grid: Grid) -> CheckedGrid:
    try:
        return CheckedGrid(grid, len(feasible_cells(grid)))
    except ConfigError:
        raise
    except LabError as error:  # a missing image folder says nothing about the file
        return CheckedGrid(grid, 0, str(error))
