"""Reading grid files: every fault is reported with its line and key before a `Grid` is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab import plugins
from lab.config.grid import Budget, Grid, GridFile
from lab.config.plugin_files import load_plugins
from lab.config.reading.claims import read_claims
from lab.config.reading.contradictions import check_despite_faults, check_first_cell
from lab.config.reading.dimensions import Outline, constants_of, read_grid, read_overrides, read_repeats
from lab.config.reading.document import Reading
from lab.config.reading.keys import read_base, read_keys, read_name
from lab.config.reading.notify import read_notify
from lab.config.reading.search import read_search
from lab.config.reading.searched import read_searched
from lab.config.reading.selections import (
    check_structure,
    read_constraints,
    read_exclude,
    read_only,
    read_reported,
    read_when,
)
from lab.config.space import Space
from lab.config.yaml import Document, parse_yaml, read_yaml
from lab.errors import ConfigError, Fault

__all__ = ["check_files", "load_grid", "parse_grid"]


def load_grid(
    path: str | Path, overrides: Mapping[str, Any] | None = None, only: Mapping[str, list[str]] | None = None
) -> Grid:
    """Read and check a grid file. The plug-ins that it names are loaded: their code runs.

    Args:
        path: the file.
        overrides: settings that replace those of the base, as with `--set epochs=3`, and values of `FILE_KEYS`.
        only: dimensions and the values to keep, as text, as in `--only net=lenet,conv3`.

    Raises:
        ConfigError: everything that is wrong with the file, each fault with its line and key.
    """
    document = read_yaml(path)
    with plugins.trusted(Path(path).parent):
        load_plugins(document)
        return _read(document, Path(path).stem, overrides or {}, only or {})


def parse_grid(
    text: str,
    file: str = "",
    overrides: Mapping[str, Any] | None = None,
    only: Mapping[str, list[str]] | None = None,
) -> Grid:
    """Check a grid file given as text, as a study stores it; see `load_grid`. Loads no plug-ins.

    Args:
        text: the content of the file.
        file: its name, for error messages and as the default for `name`.
        overrides: as for `load_grid`.
        only: as for `load_grid`.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    return _read(parse_yaml(text, file), Path(file).stem or "grid", overrides or {}, only or {})


def check_files(paths: Iterable[str | Path]) -> list[Grid]:
    """Read and check several grid files.

    Raises:
        ConfigError: everything that is wrong with any of them.
    """
    grids: list[Grid] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            grids.append(load_grid(path))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return grids


def _read(document: Document, stem: str, overrides: Mapping[str, Any], only: Mapping[str, list[str]]) -> Grid:
    """Return the grid of a document.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    reading = Reading(document, overrides)
    file = read_keys(reading)
    name = read_name(reading, file, stem)
    base = read_base(reading, file)
    varied, conditions = read_grid(reading, file), file.when
    if file.search is not None:
        searched, conditions = read_searched(reading, file.search, varied, file.when)
        varied |= searched
    when = read_when(reading, conditions)
    settings = read_overrides(reading, varied, file)
    base |= settings
    outline = Outline(varied | read_repeats(reading, file, base, varied), when, constants_of(base))
    check_structure(reading, file, outline, base)
    exclude = read_exclude(reading, file, outline)
    selected = read_only(reading, only, outline)
    reported = read_reported(reading, file, outline)
    claims = read_claims(reading, file, outline)
    constraints = read_constraints(reading, file)
    notify = read_notify(reading, file)
    search = read_search(reading, file, outline, only)
    if reading.faults:
        check_despite_faults(reading, file, outline, base, exclude, selected)
    reading.stop_at_faults()
    space = _space(document, outline)
    grid = Grid(
        name=name,
        description=file.description,
        file=document.file,
        base=base,
        space=space,
        exclude=exclude,
        only=selected,
        constraints=constraints,
        budget=_budget(file, space),
        max_retries=file.max_retries,
        max_failures=file.max_failures,
        priority=file.priority,
        notify=notify,
        gpu_memory=None if file.gpu_memory is None else int(file.gpu_memory),
        needs=(file.needs,) if isinstance(file.needs, str) else tuple(file.needs),
        report=file.report,
        reported=reported,
        claims=claims,
        search=search,
        overrides={**reading.key_overrides, **settings},
        text=document.text,
    )
    check_first_cell(reading, outline, grid)
    return grid


def _space(document: Document, outline: Outline) -> Space:
    try:
        return outline.space()
    except ConfigError as error:
        raise ConfigError([document.fault(("when",), fault.message) for fault in error.faults]) from None


def _budget(file: GridFile, space: Space) -> Budget:
    """Return the budget, which need not name the trials of a search in a finite space."""
    if file.budget.trials is not None or file.search is None:
        return file.budget
    trials = space.size if file.search.tries_every_point else math.ceil(space.size / 2)
    return file.budget.model_copy(update={"trials": trials})
