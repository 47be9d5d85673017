"""What a sweep of a grid would do: its cells or its search, next to the study that is already there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from lab.config import Dimension, Grid, Search, TrialConfig, as_text, load_needs, reaches_needs
from lab.data import data_notes, data_settings
from lab.engines.missing import MissingRuns
from lab.engines.stores import Stores, connected
from lab.errors import ConfigError
from lab.study import (
    Earlier,
    PlannedCell,
    PlanSummary,
    State,
    check_search,
    compare,
    feasible_cells,
    find_queue,
    plan,
    run_ids,
)

__all__ = [
    "GridPlan",
    "Needs",
    "SearchPlan",
    "cell_values",
    "dimension_values",
    "needs_of",
    "notes_on_data",
    "plan_grid",
    "plan_search",
]


@dataclass(frozen=True)
class GridPlan:
    """The cells of a grid, each with the state of its trial.

    `cells` yields them once, as they are planned: a million do not fit in memory. `trouble` says why it is not known
    which runs were deleted, and is empty where that is known.
    """

    grid: Grid
    cells: Iterator[PlannedCell]
    states: Mapping[str, State]
    trouble: str
    earlier: Earlier | None

    def summary(self, taken: Iterable[PlannedCell]) -> PlanSummary | None:
        """Return what the grid means to its study, None where there is no study; plans all cells.

        Args:
            taken: those already taken from `cells`.
        """
        return None if self.earlier is None else compare(chain(taken, self.cells), self.states)

    @property
    def unverified(self) -> int:
        """How many of the cells planned so far were trained before lab recorded on which images."""
        return 0 if self.earlier is None else self.earlier.unverified


@dataclass(frozen=True)
class SearchPlan:
    """A search and how many of its trials are in each state; `trouble` is as in `GridPlan`."""

    grid: Grid
    search: Search
    states: Mapping[str, int]
    trouble: str

    def configs(self) -> Iterator[TrialConfig]:
        """Yield a few of the configurations that it may try, none if none is valid."""
        with suppress(ConfigError):  # a sweep says why
            yield from (cell.config for cell in feasible_cells(self.grid))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        grid, search = self.grid, self.search
        values = [(dimension, *dimension_values(dimension)) for dimension in grid.space.dimensions]
        return {
            "name": grid.name,
            "space": {dimension.name: candidates for dimension, candidates, _ in values},
            "when": {dimension.name: when for dimension, _, when in values if when},
            "constraints": [str(constraint) for constraint in grid.constraints],
            "exclude": [str(exclusion) for exclusion in grid.exclude],
            "sampler": asdict(search.sampler),
            "pruner": asdict(search.pruner),
            "objectives": {objective.metric: objective.direction for objective in search.objectives},
            "enqueue": [dict(point) for point in search.enqueue],
            "target": search.target,
            "budget": grid.budget.model_dump(exclude_none=True),
            "states": dict(self.states),
        }


@dataclass(frozen=True)
class Needs:
    """The studies that are trained before a grid's own, and the values of `--set` that do not apply to them."""

    grids: Sequence[Grid]
    own_overrides: Mapping[str, Any]


def plan_grid(grid: Grid, stores: Stores, indices: Iterable[int] | None = None) -> GridPlan:
    """Return the cells of `grid`; nothing is trained, queued or written.

    Args:
        grid: from `load_grid`.
        stores: with its study, if there is one.
        indices: of the only cells to plan, in rising order; all if None.

    Raises:
        ConfigError: a grid file that it needs is missing or wrong.
        LabError: an image folder or the study cannot be read.
    """
    queue, missing = find_queue(stores.storage, grid.name), MissingRuns(stores.tracking_uri)
    newest = queue.newest(missing(run_ids(queue))) if queue else {}
    states = {cell: record.state for cell, record in newest.items()}
    earlier = Earlier(queue, newest, lambda: connected(stores)) if queue else None
    return GridPlan(grid, plan(grid, states, earlier, indices), states, missing.trouble, earlier)


def plan_search(grid: Grid, search: Search, stores: Stores) -> SearchPlan:
    """Return the search of `grid`, checked; nothing is trained, queued or written.

    Raises:
        ConfigError: the search is not valid.
        StudyError: the study cannot be read.
    """
    check_search(grid)
    queue, missing = find_queue(stores.storage, grid.name), MissingRuns(stores.tracking_uri)
    states = queue.states(missing(run_ids(queue))) if queue else {}
    return SearchPlan(grid, search, Counter(states.values()), missing.trouble)


def needs_of(grid: Grid) -> Needs:
    """Return the studies that `grid` needs, in the order of training.

    Raises:
        ConfigError: a grid file is missing or wrong.
    """
    grids = load_needs(grid)
    alone = {name: value for name, value in grid.overrides.items() if not reaches_needs(name)}
    return Needs(grids, alone if grids else {})


def notes_on_data(configs: Iterable[TrialConfig]) -> Iterator[Sequence[str]]:
    """Yield `lab.data.data_notes` once for all configurations that use the same data.

    Raises:
        DataError: an image folder cannot be read.
    """
    known = set()
    for config in configs:
        data = (*data_settings(config), config.val_fraction, config.test_fraction, config.folds)
        if data not in known:
            known.add(data)
            yield data_notes(config)


def cell_values(cell: PlannedCell) -> dict[str, Any]:
    """Return a cell as plain values, without its configuration."""
    return {
        "index": cell.index,
        "label": cell.label,
        "feasible": cell.feasible,
        "reason": cell.reason,
        "state": cell.state,
        "params": cell.summary.params if cell.summary else None,
        "trainable_params": cell.summary.trainable_params if cell.summary else None,
        "mult_adds": cell.summary.mult_adds if cell.summary else None,
        "cell_hash": cell.config.cell_hash if cell.config else None,
    }


def dimension_values(dimension: Dimension) -> tuple[str, str]:
    """Return in words what a dimension is chosen from, and under which condition (empty: always)."""
    candidates = ", ".join(as_text(value) for value in dimension.candidates)
    when = (f"{key}={'|'.join(as_text(value) for value in allowed)}" for key, allowed in dimension.when)
    return str(dimension.range) if dimension.range is not None else candidates, ", ".join(when)
