"""The grid files that a grid file needs: their studies are trained first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import registry
from lab.config.grid import Grid
from lab.config.grid_file import load_grid
from lab.errors import ConfigError, Fault

__all__ = ["load_needs", "reaches_needs"]


def load_needs(grid: Grid) -> list[Grid]:
    """Return the grids whose studies `grid` needs, each after those that it needs itself.

    Those overrides of `grid` hold for them too that `reaches_needs`; a study's own `overrides` says which.

    Raises:
        ConfigError: a file is missing or wrong, a study would need itself, or varies what an override replaces.
    """
    found: dict[Path, Grid] = {}
    _collect(grid, Path(grid.file).resolve(), (), found)
    return list(found.values())


def reaches_needs(setting: str) -> bool:
    """Return whether an override of a grid holds for the studies that it needs too: one that says which data
    they are trained on, for how many epochs and by what. All else, such as `lr`, is for the grid alone."""
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
        if not _is_file(needed):
            raise ConfigError(Fault(f"there is no grid file {name} beside this one", "needs", grid.file))
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
