"""The grid files that a grid file needs, whose studies are trained first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import registry
from lab.config.grid import Grid
from lab.config.grid_file import load_grid
from lab.errors import ConfigError, Fault

__all__ = ["load_needs", "reaches_needs"]


def load_needs(grid: Grid) -> list[Grid]:
    """Return the grids whose studies `grid` needs, each after the grids that it needs in turn.

    Overrides for which `reaches_needs` is true apply to them too; the `overrides` of each grid list those.

    Raises:
        ConfigError: a file is missing or invalid, a study needs itself, or one varies what an override replaces.
    """
    found: dict[Path, Grid] = {}
    _collect(grid, Path(grid.file).resolve(), (), found)
    return list(found.values())


def reaches_needs(setting: str) -> bool:
    """Return whether an override of a grid also applies to the studies that it needs.

    It does if it determines the data, the number of epochs or the hardware; others, such as `lr`, are for the
    grid alone.
    """
    of_data = {
        "dataset",
        *(option for name in registry.datasets for option in registry.datasets[name].options),
    }
    return setting in {*of_data, "epochs", "device", "threads"}


def _collect(grid: Grid, file: Path, above: tuple[Path, ...], found: dict[Path, Grid]) -> None:
    overrides = {name: value for name, value in grid.overrides.items() if reaches_needs(name)}
    for name in grid.needs:
        needed = (file.parent / name).resolve()
        if needed in (*above, file):
            chain = " -> ".join(path.name for path in (*above, file, needed))
            raise ConfigError(Fault(f"a study cannot need itself: {chain}", "needs", grid.file))
        if not os.path.isfile(needed):
            raise ConfigError(Fault(f"there is no grid file {name} in this folder", "needs", grid.file))
        if needed not in found:
            needed_grid = _load(needed, overrides, grid)
            _collect(needed_grid, needed, (*above, file), found)
            found[needed] = needed_grid


def _load(file: Path, overrides: Mapping[str, Any], grid: Grid) -> Grid:
    try:
        return load_grid(file, overrides)
    except ConfigError as error:
        raise ConfigError(
            [
                Fault(
                    f"{fault.message} ({grid.name} needs this study)",
                    fault.key,
                    fault.file or str(file),
                    fault.line,
                )
                for fault in error.faults
            ]
        ) from None
