"""Settings that are valid by themselves, but contradict each other within a cell of a grid file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from lab.config.grid import Grid, GridFile
from lab.config.kinds import doubtful
from lab.config.reading.dimensions import Outline
from lab.config.reading.document import Reading
from lab.config.selection import Selection
from lab.config.space import Point
from lab.config.trial import contradictions
from lab.errors import ConfigError

__all__ = ["check_despite_faults", "check_first_cell"]

_MAX_TRIED: Final = 1000  # cells in which contradictions are looked for
_MAX_CORNERS: Final = 100  # points of a search, of which one must be a valid configuration


def check_despite_faults(
    reading: Reading,
    file: GridFile,
    outline: Outline,
    base: Mapping[str, Any],
    exclude: tuple[Selection, ...],
    only: Selection | None,
) -> None:
    """Note contradictions in a file with faults, unless they depend on what is wrong.

    Checks all cells, or only what they share if it is unknown which cells there are.
    """
    doubted = doubtful(reading.wrong)
    unknown = any(fault.key.startswith(("exclude", "when", "--only")) for fault in reading.faults)
    if file.search is None and not unknown:
        with suppress(ConfigError):
            grid = Grid("", "", "", {}, outline.space(), exclude, only)
            points = islice(grid.space, _MAX_TRIED)
            cells = [grid.space.values(point) for point in points if not grid.excluded(point)]
            _report(reading, outline.setters, base, cells, doubted)
            return
    _report(reading, outline.setters, base, [{}], doubted | set(outline.setters))


def check_first_cell(reading: Reading, outline: Outline, grid: Grid) -> None:
    """Check that the first cell that is not excluded is a valid configuration; of a search, that any corner is.

    Raises:
        ConfigError: how the values of cells contradict each other.
    """
    points = islice(grid.space, _MAX_TRIED)
    first: Point | None = next((point for point in points if grid.excluded(point) is None), None)
    if first is None or (grid.search is not None and _any_config(grid)):
        return
    try:
        grid.config(first)
    except ConfigError:
        tried = [first] if grid.search is not None else islice(grid.space, _MAX_TRIED)
        values = [grid.space.values(point) for point in tried if grid.excluded(point) is None]
        _report(reading, outline.setters, grid.base, values, frozenset())
        reading.stop_at_faults()


def _report(
    reading: Reading,
    setters: Mapping[str, str],
    base: Mapping[str, Any],
    cells: Iterable[Mapping[str, Any]],
    doubted: frozenset[str],
) -> None:
    """Report how the values of the `cells` over `base` contradict each other, each contradiction once."""
    found = dict.fromkeys(fault for values in cells for fault in contradictions({**base, **values}, doubted))
    for fault in found:
        setter = setters.get(fault.key)
        if fault.key in reading.setting_overrides:
            reading.option_fault(f"--set {fault.key}", fault.message)
        else:
            reading.fault(("grid", setter) if setter else ("base", fault.key), fault.message)


def _any_config(grid: Grid) -> bool:
    """Return whether any of a search's first corners is a valid configuration; the first one need not be."""
    for point in islice(grid.space, _MAX_CORNERS):
        with suppress(ConfigError):
            grid.config(point)
            return True
    return False
