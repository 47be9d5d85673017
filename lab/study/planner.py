"""The cells of a grid file: each is resolved and checked before any compute is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from lab import study  # Optuna is asked for only where there is a search
from lab.config import Grid, TrialConfig, check_installed, load_needs
from lab.data import describe, identifier, settled
from lab.errors import ConfigError, Fault
from lab.models import Summary, check_weights, summarize_config, with_digest
from lab.study.origins import Source, check_origin, trained_models
from lab.study.state import State

if TYPE_CHECKING:
    from lab.study.earlier import Earlier

__all__ = ["Cell", "PlanSummary", "PlannedCell", "compare", "feasible_cells", "plan"]

_MAX_FAULTS = 20
_MAX_CORNERS = 50  # points of a search's space that are checked beforehand


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a grid, before it is queued.

    Attributes:
        index: its place in the space.
        label: its name for people.
        point: its values of the space's dimensions.
        config: None if the values are not a valid configuration.
        summary: of its model; None without a config.
        reason: why it is not feasible; empty if it is.
        invalid: whether the file is wrong here, rather than leaving the cell out by `exclude` or `constraints`.
        hash: of the config; empty unless the cell is feasible.
        state: of the cell in the study; `stale` if the study's trial is of images that the folder no longer holds.
    """

    index: int
    label: str
    point: Mapping[str, Any]
    config: TrialConfig | None
    summary: Summary | None
    reason: str = ""
    invalid: bool = False
    state: State = State.NEW
    hash: str = ""

    @property
    def feasible(self) -> bool:
        """Whether the cell will be trained."""
        return not self.reason


@dataclass(frozen=True)
class PlanSummary:
    """How many cells of a grid its study has.

    Attributes:
        new: feasible cells that the study does not have.
        known: feasible cells that it has.
        done: of these, how many are complete.
        left: cells of the study that the grid does not name.
        stale: of the new ones, how many the study has of other images.
        deleted: of the known ones, how many have lost their run.
    """

    new: int
    known: int
    done: int
    left: int
    stale: int = 0
    deleted: int = 0


def compare(cells: Iterable[PlannedCell], states: Mapping[str, State]) -> PlanSummary:
    """Compare a grid with its study.

    Args:
        cells: all of them, from `plan`.
        states: from `TrialQueue.states`.
    """
    named = {cell.hash: cell for cell in cells if cell.feasible}
    known = named.keys() & states.keys()
    done = sum(states[cell] is State.COMPLETE for cell in known)
    deleted = sum(states[cell] is State.DELETED for cell in known)
    stale = sum(cell.state is State.STALE for cell in named.values())
    left = len(states.keys() - named.keys())
    return PlanSummary(len(named) - len(known), len(known), done, left, stale, deleted)


def plan(
    grid: Grid,
    states: Mapping[str, State] | None = None,
    earlier: Earlier | None = None,
    indices: Iterable[int] | None = None,
) -> Iterator[PlannedCell]:
    """Yield every cell of `grid` in order, without building a list of them.

    Args:
        grid: the grid file.
        states: state of each cell by cell hash, from `TrialQueue.states`.
        earlier: what the study has of image folders.
        indices: of the only cells to yield, in rising order; all if None.

    Raises:
        ConfigError: a grid file that this one needs is missing or wrong.
        DataError: an image folder cannot be read.
        LabError: a package that a cell needs is not installed.
    """
    seen: dict[str, int] = {}
    trained, identify = trained_models(load_needs(grid)), identifier()
    for index in range(grid.space.size) if indices is None else indices:
        cell = _check(grid, index, trained, identify)
        if cell.config is not None and cell.feasible:
            config, stale = earlier.recognise(cell.config) if earlier else (cell.config, False)
            cell_hash = config.cell_hash
            first = seen.setdefault(cell_hash, index)
            state = State.STALE if stale else (states or {}).get(cell_hash, State.NEW)
            reason = f"the same trial as cell {first}" if first != index else ""
            cell = replace(cell, config=config, reason=reason, state=state, hash=cell_hash)
        yield cell


def _check(
    grid: Grid,
    index: int,
    trained: Callable[[str | None], list[Source]],
    identify: Callable[[TrialConfig], TrialConfig],
) -> PlannedCell:
    point = grid.space.at(index)
    label = grid.label(point)
    reason = grid.excluded(point)
    if reason:
        return PlannedCell(index, label, point, None, None, reason)
    try:
        config = settled(grid.config(point))
        check_installed(config)
        info = describe(config)
        config = with_digest(identify(config))
        summary = summarize_config(config, info.shape, len(info.classes))
        check_weights(config, info.shape, len(info.classes))
        check_origin(config, info, trained(config.init_from))
    except ConfigError as error:
        return PlannedCell(index, label, point, None, None, str(error), invalid=True)
    facts = {**config.model_dump(), **summary.facts()}
    violations = (constraint.violated(facts) for constraint in grid.constraints)
    return PlannedCell(index, label, point, config, summary, next(filter(None, violations), ""))


@dataclass(frozen=True)
class Cell:
    """A cell that will be trained."""

    label: str
    point: Mapping[str, Any]
    config: TrialConfig
    hash: str


def feasible_cells(grid: Grid) -> list[Cell]:
    """Return the cells to train, at most as many as the budget allows; of a search some examples.

    Raises:
        ConfigError: some cells are not valid configurations, or none is feasible.
    """
    if grid.search is not None:
        study.check_search(grid)
        if not grid.search.tries_every_point:
            return _corners(grid)
    planned = list(plan(grid))
    invalid = [cell for cell in planned if cell.invalid]
    if invalid:
        faults = [Fault(f"cell {cell.index} ({cell.label}): {cell.reason}") for cell in invalid[:_MAX_FAULTS]]
        more = len(invalid) - len(faults)
        note = f"{f'and {more} more. ' if more else ''}Leave them out with `exclude`, or change their values"
        raise ConfigError([*faults, Fault(note, file=str(grid.file or ""))])
    cells = [
        Cell(cell.label, cell.point, cell.config, cell.hash)
        for cell in planned
        if cell.feasible and cell.config is not None
    ]
    if not cells:
        raise ConfigError(
            Fault(f"no cell is feasible; `lab plan {grid.file}` says why for each", file=str(grid.file or ""))
        )
    _check_one_metric(grid, cells)
    return list(islice(cells, grid.budget.trials))


def _corners(grid: Grid) -> list[Cell]:
    """Return the valid ones among points spread over a search's space, from end to end.

    Raises:
        ConfigError: none of them is a valid configuration.
    """
    trained, identify = trained_models(load_needs(grid)), identifier()
    size = grid.space.size
    numbers = {number * (size - 1) // max(1, _MAX_CORNERS - 1) for number in range(_MAX_CORNERS)}
    checked = [_check(grid, number, trained, identify) for number in sorted(numbers)]
    found = [
        Cell(cell.label, cell.point, cell.config, cell.config.cell_hash)
        for cell in checked
        if cell.config is not None
    ]
    if not found:
        reasons = dict.fromkeys(cell.reason for cell in checked)
        raise ConfigError(
            [
                Fault(f"no point is a valid configuration: {reason}", "search.space", grid.file)
                for reason in list(reasons)[:3]
            ]
        )
    return found


def _check_one_metric(grid: Grid, cells: list[Cell]) -> None:
    compared = {(cell.config.monitor, cell.config.mode) for cell in cells}
    if len(compared) > 1:
        names = ", ".join(sorted(f"{monitor} ({mode})" for monitor, mode in compared))
        raise ConfigError(
            Fault(
                f"a study compares its cells by one metric, but they monitor {names}",
                file=str(grid.file or ""),
            )
        )
