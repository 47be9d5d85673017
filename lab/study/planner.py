"""From a grid file to trials: every cell is resolved and checked before anything is spent, and queued once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lab.config import Grid, TrialConfig, load_needs
from lab.data import describe
from lab.errors import ConfigError, Fault, StudyError
from lab.models import Summary, summarize_config
from lab.study.origins import check_origin, trained_configs
from lab.study.queue import MAX_RETRIES, TrialQueue
from lab.study.search import check_search
from lab.study.slots import fill_slots, forget_search, is_void
from lab.tracking import Run, Tracker

__all__ = ["Cell", "PlannedCell", "Submission", "cell_states", "feasible_cells", "plan", "submit"]

_MOST_FAULTS = 20
_MOST_CORNERS = 50  # of a search's space, tried before anything is spent


@dataclass(frozen=True)
class PlannedCell:
    """One cell before anything is spent on it.

    `config` and `summary` are None where the cell's values do not make a trial; `reason` says why a cell is
    not feasible; `invalid` tells a mistake in the file from what it leaves out by `exclude` or `constraints`;
    `state` is the state of the cell's trial in the study (`new` where it has none).
    """

    index: int
    label: str
    point: Mapping[str, Any]
    config: TrialConfig | None
    summary: Summary | None
    reason: str = ""
    invalid: bool = False
    state: str = "new"

    @property
    def feasible(self) -> bool:
        """Whether the cell will be trained."""
        return not self.reason


@dataclass(frozen=True)
class Submission:
    """What queueing a grid did: cells `added`, already `present`, `skipped` as infeasible, and trials of the
    study that the file names no more (`gone`), which are left alone. Of a search its trials are counted."""

    queue: TrialQueue
    run: Run
    added: int
    present: int
    skipped: int
    gone: int
    unit: str = "cells"


def plan(grid: Grid, states: Mapping[str, str] | None = None) -> Iterator[PlannedCell]:
    """Yield every cell of `grid` in order, without building a list of them.

    Args:
        grid: the grid file.
        states: state of each cell's trial by cell hash, from `cell_states`.

    Raises:
        ConfigError: a grid file that this one needs is missing or wrong.
        DataError: the classes of an image folder cannot be read.
    """
    seen: dict[str, int] = {}
    trained = trained_configs(load_needs(grid))
    for index in range(grid.space.size):
        point = grid.space.at(index)
        cell = _check(grid, index, point, trained)
        if cell.config is not None and cell.feasible:
            key = cell.config.cell_hash
            first = seen.setdefault(key, index)
            state = (states or {}).get(key, "new")
            reason = f"the same trial as cell {first}" if first != index else ""
            cell = PlannedCell(index, cell.label, point, cell.config, cell.summary, reason, state=state)
        yield cell


def _check(
    grid: Grid, index: int, point: Mapping[str, Any], trained: Callable[[str | None], list[TrialConfig]]
) -> PlannedCell:
    label = grid.label(point)
    reason = grid.excluded(point)
    if reason:
        return PlannedCell(index, label, point, None, None, reason)
    try:
        config = grid.config(point)
        info = describe(config)
        summary = summarize_config(config, info.shape, len(info.classes))
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
    """Return what is to be trained of `grid`, at most as many cells as its budget allows; of a search some examples.

    Raises:
        ConfigError: cells whose values make no trial, or none at all are feasible.
    """
    if grid.search is not None:
        return _corners(grid)
    planned = list(plan(grid))
    invalid = [cell for cell in planned if cell.invalid]
    if invalid:
        faults = [
            Fault(f"cell {cell.index} ({cell.label}): {cell.reason}") for cell in invalid[:_MOST_FAULTS]
        ]
        more = len(invalid) - len(faults)
        note = f"{f'and {more} more. ' if more else ''}Leave them out with `exclude`, or change their values"
        raise ConfigError([*faults, Fault(note, file=str(grid.file or ""))])
    cells = [
        Cell(cell.label, cell.point, cell.config, cell.config.cell_hash)
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
    """Return points at the ends of a search's ranges that make a trial, having checked the search.

    Raises:
        ConfigError: the sampler or the pruner is none, or none of the points makes a trial.
    """
    check_search(grid)
    trained = trained_configs(load_needs(grid))
    size = grid.space.size
    numbers = {number * (size - 1) // max(1, _MOST_CORNERS - 1) for number in range(_MOST_CORNERS)}
    checked = [_check(grid, number, grid.space.at(number), trained) for number in sorted(numbers)]
    found = [
        Cell(cell.label, cell.point, cell.config, cell.config.cell_hash)
        for cell in checked
        if cell.config is not None
    ]
    if not found:
        reasons = dict.fromkeys(cell.reason for cell in checked)
        raise ConfigError(
            [
                Fault(f"no point makes a trial: {reason}", "search.space", grid.file)
                for reason in list(reasons)[:3]
            ]
        )
    return found


def cell_states(queue: TrialQueue) -> dict[str, str]:
    """Return the state of each cell's newest trial by cell hash: waiting, running, complete, pruned or failed.

    A trial whose process died, and whose successor was never queued, counts as `lost`: the cell is missing.
    """
    states = {}
    for trial in queue.trials():
        if is_void(trial):
            continue
        state = trial.state.name.lower()
        if trial.state is TrialState.FAIL:
            died = "outcome" not in trial.user_attrs and trial.user_attrs.get("retries", 0) < MAX_RETRIES
            state = "lost" if died else "failed"
        states[trial.user_attrs.get("cell", "")] = state
    return states


def submit(
    grid: Grid,
    cells: Sequence[Cell],
    storage: RDBStorage,
    tracker: Tracker,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Submission:
    """Queue what the study of `grid` does not have yet of its cells, and open the study's run.

    Args:
        grid: the grid file.
        cells: from `feasible_cells`.
        storage: the studies' database.
        tracker: where the study's experiment and run are.
        on_progress: called with the cells queued so far and how many there are.

    Raises:
        StudyError: a study of this name compares by another metric.
    """
    queue = _open_study(grid, cells[0].config, storage)
    states = cell_states(queue)
    missing = [cell for cell in cells if states.get(cell.hash, "lost") == "lost"]
    run = _open_run(grid, cells[0].config, queue, tracker)
    if grid.search is not None:
        added, present = fill_slots(grid, queue, states, on_progress)
        return Submission(queue, run, added, present, skipped=0, gone=0, unit="trials")
    forget_search(queue)
    distributions = queue.accept(grid.space.distributions())
    lost = {trial.user_attrs["cell"]: trial for trial in queue.trials(TrialState.FAIL)}
    for done, cell in enumerate(missing):
        on_progress(done, len(missing))
        if cell.hash in lost:
            queue.requeue(lost[cell.hash])
            continue
        params = grid.space.params(cell.point)
        queue.add(cell.config, cell.label, params, {name: distributions[name] for name in params})
    return Submission(
        queue,
        run,
        added=len(missing),
        present=len(cells) - len(missing),
        skipped=grid.space.size - len(cells),
        gone=0 if grid.only else len(states.keys() - {cell.hash for cell in cells}),
    )


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


def _open_study(grid: Grid, config: TrialConfig, storage: RDBStorage) -> TrialQueue:
    objectives = _objectives(grid, config)
    study = optuna.create_study(
        storage=storage, study_name=grid.name, directions=list(objectives.values()), load_if_exists=True
    )
    queue = TrialQueue(storage, grid.name)
    attributes = queue.attributes()
    before = [attributes["monitor"]] if "monitor" in attributes else list(objectives)
    names = attributes.get("objectives", before)
    known = list(zip(names, (direction.name.lower() for direction in study.directions), strict=False))
    if known != list(objectives.items()) or len(study.directions) != len(names):
        raise StudyError(
            f"Study '{grid.name}' exists and compares by {_named(known)}, "
            f"but the grid monitors {_named(objectives.items())}; give the grid another `name`"
        )
    queue.set_attribute("objectives", list(objectives))
    return queue


def _objectives(grid: Grid, config: TrialConfig) -> dict[str, Literal["maximize", "minimize"]]:
    """Return the metrics that a study compares its trials by, and which end of each is best."""
    if grid.search is None:
        return {config.monitor: _direction(config)}
    return {objective.metric: objective.direction for objective in grid.search.objectives}


def _named(objectives: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({direction})" for name, direction in objectives)


def _direction(config: TrialConfig) -> Literal["maximize", "minimize"]:
    return "maximize" if config.mode == "max" else "minimize"


def _open_run(grid: Grid, config: TrialConfig, queue: TrialQueue, tracker: Tracker) -> Run:
    """Open the study's own run, which its trials' runs are shown under."""
    tags = {"lab.study": grid.name, "lab.kind": "study"}
    experiment = tracker.experiment(grid.name)
    known = tracker.find_runs(experiment, tags)
    varied = [dimension.name for dimension in grid.space.dimensions]
    tracker.present(experiment, description=grid.description, varied=varied, descending=config.mode == "max")
    tags |= {
        "lab.direction": _direction(config),
        "lab.monitor": config.monitor,
        "lab.varied": json.dumps(varied),
        "lab.objectives": json.dumps(_objectives(grid, config)),
        "mlflow.note.content": grid.description,
    }
    run = tracker.open_run(
        name=grid.name, experiment=experiment, tags=tags, run_id=known[0] if known else None
    )
    run.log_text(grid.text, "grid.yaml")
    attributes = {
        "experiment": grid.name,
        "run_id": run.run_id,
        "monitor": config.monitor,
        "maximize": config.mode == "max",
    }
    for key, value in attributes.items():
        queue.set_attribute(key, value)
    return run
