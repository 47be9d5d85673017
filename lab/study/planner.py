"""From a grid file to trials: every cell is resolved and checked before anything is spent, and queued once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from lab.config import Grid, TrialConfig, load_needs
from lab.data import describe, settled
from lab.errors import ConfigError, Fault, StudyError, TrackingError
from lab.models import Summary, summarize_config
from lab.study.distributions import Codec, accept_grid
from lab.study.earlier import Earlier, end_stale, identifier, keep_to_images
from lab.study.lock import alone
from lab.study.origins import check_origin, trained_configs
from lab.study.queue import TrialQueue
from lab.study.record import State, StudyKey, TrialRecord
from lab.study.rescue import requeue
from lab.study.search.budget import fill_slots, forget_search
from lab.study.search.methods import check_search
from lab.study.storage import PatientStorage
from lab.study.studies import open_study
from lab.tracking import Run, Tracker
from lab.tracking.planned import Planned, log_planned
from lab.tracking.tags import Tag

__all__ = [
    "Cell",
    "PlanSummary",
    "PlannedCell",
    "Submission",
    "compare",
    "feasible_cells",
    "plan",
    "submit",
]

_MOST_FAULTS = 20
_TURN = 20  # cells queued before another planner, or who re-queues the dead, may go on
_PAUSE = 0.002
_MOST_CORNERS = 50  # of a search's space, tried before anything is spent


@dataclass(frozen=True)
class PlannedCell:
    """One cell before anything is spent on it.

    `config` and `summary` are None where the cell's values do not make a trial; `reason` says why a cell is
    not feasible; `invalid` tells a mistake in the file from what it leaves out by `exclude` or `constraints`;
    `state` is the state of the cell's trial in the study (`new` if it has none, `stale` if that is of images
    that the folder does not hold any more).
    """

    index: int
    label: str
    point: Mapping[str, Any]
    config: TrialConfig | None
    summary: Summary | None
    reason: str = ""
    invalid: bool = False
    state: State = State.NEW

    @property
    def feasible(self) -> bool:
        """Whether the cell will be trained."""
        return not self.reason


@dataclass(frozen=True)
class Submission:
    """What queueing a grid did: cells `added`, already `present`, `skipped` as infeasible, and trials of the
    study that the file names no more (`gone`), which are left alone. Of a search its trials are counted.

    Of those added, the study has `stale` of images that have changed since. Of those present, `unverified` are of
    an earlier version of lab, and nobody knows any more of which images; `deleted` have ended, and their runs are
    no more.
    """

    queue: TrialQueue
    run: Run
    added: int
    present: int
    skipped: int
    gone: int
    unit: str = "cell"
    stale: int = 0
    unverified: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class PlanSummary:
    """A grid beside the study that is there: feasible cells that are `new` to it (of these `stale`: it has them of
    other images) and `known` (of these `done`, and `deleted`), and cells of the study that the grid does not name
    (`left`)."""

    new: int
    known: int
    done: int
    left: int
    stale: int = 0
    deleted: int = 0


def compare(cells: Iterable[PlannedCell], states: Mapping[str, State]) -> PlanSummary:
    """Count what a study means to a grid.

    Args:
        cells: from `plan`, all of them.
        states: from `TrialQueue.states`.
    """
    named = {cell.config.cell_hash: cell for cell in cells if cell.feasible and cell.config is not None}
    known = named.keys() & states.keys()
    done = sum(states[cell] is State.COMPLETE for cell in known)
    deleted = sum(states[cell] is State.DELETED for cell in known)
    stale = sum(cell.state is State.STALE for cell in named.values())
    left = len(states.keys() - named.keys())
    return PlanSummary(len(named) - len(known), len(known), done, left, stale, deleted)


def plan(
    grid: Grid, states: Mapping[str, State] | None = None, earlier: Earlier | None = None
) -> Iterator[PlannedCell]:
    """Yield every cell of `grid` in order, without building a list of them.

    Args:
        grid: the grid file.
        states: state of each cell's trial by cell hash, from `TrialQueue.states`.
        earlier: what the study has of folders of images.

    Raises:
        ConfigError: a grid file that this one needs is missing or wrong.
        DataError: an image folder cannot be read.
    """
    seen: dict[str, int] = {}
    trained, identify = trained_configs(load_needs(grid)), identifier()
    for index in range(grid.space.size):
        cell = _check(grid, index, trained, identify)
        if cell.config is not None and cell.feasible:
            config, stale = earlier.recognise(cell.config) if earlier else (cell.config, False)
            first = seen.setdefault(config.cell_hash, index)
            state = State.STALE if stale else (states or {}).get(config.cell_hash, State.NEW)
            reason = f"the same trial as cell {first}" if first != index else ""
            cell = replace(cell, config=config, reason=reason, state=state)
        yield cell


def _check(
    grid: Grid,
    index: int,
    trained: Callable[[str | None], list[TrialConfig]],
    identify: Callable[[TrialConfig], TrialConfig],
) -> PlannedCell:
    point = grid.space.at(index)
    label = grid.label(point)
    reason = grid.excluded(point)
    if reason:
        return PlannedCell(index, label, point, None, None, reason)
    try:
        config = settled(grid.config(point))
        info = describe(config)
        config = identify(config)
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
        check_search(grid)
        if not grid.search.tries_every_point:
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
    """Return points at the ends of a search's ranges that make a trial.

    Raises:
        ConfigError: none of the points makes a trial.
    """
    trained, identify = trained_configs(load_needs(grid)), identifier()
    size = grid.space.size
    numbers = {number * (size - 1) // max(1, _MOST_CORNERS - 1) for number in range(_MOST_CORNERS)}
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
                Fault(f"no point makes a trial: {reason}", "search.space", grid.file)
                for reason in list(reasons)[:3]
            ]
        )
    return found


def submit(
    grid: Grid,
    cells: Sequence[Cell],
    storage: PatientStorage,
    tracker: Tracker,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Submission:
    """Queue what the study of `grid` does not have yet of its cells, and open the study's run.

    Any number of processes may do so at once: each cell is queued once. They take turns, a few cells each.

    Args:
        grid: the grid file.
        cells: from `feasible_cells`.
        storage: the studies' database.
        tracker: where the study's experiment and run are.
        on_progress: called with the cells queued so far and how many there are.

    Raises:
        StudyError: a study of this name compares by another metric, or is cancelled.
    """
    opened = storage.patiently(lambda: _open(grid, cells, storage, tracker, on_progress))
    if isinstance(opened, Submission):
        return opened
    queue, run, newest, last = opened
    if end_stale(queue, tracker):
        newest = queue.newest()
    earlier = Earlier(queue, lambda: tracker)
    cells, stale = _recognised(cells, earlier)
    planned = Planned(grid.text, grid.overrides, tuple(cell.hash for cell in cells))
    planned = log_planned(run, tracker, planned, partial=grid.only is not None)
    queue.note(StudyKey.PLANNED, list(planned.cells))
    missing = [cell for cell in cells if cell.hash not in newest or newest[cell.hash].lacks_successor]
    turns = _Turns(grid, queue, newest, last)
    added = 0
    for start in range(0, len(missing), _TURN):
        on_progress(start, len(missing))
        added += turns.take(missing[start : start + _TURN])
    return Submission(
        queue,
        run,
        added=added,
        present=len(cells) - added,
        skipped=grid.space.size - len(cells),
        gone=0 if grid.only else len(newest.keys() - {cell.hash for cell in cells}),
        stale=stale,
        unverified=earlier.unverified,
        deleted=_deleted([newest[cell.hash] for cell in cells if cell.hash in newest], tracker),
    )


def _recognised(cells: Sequence[Cell], earlier: Earlier) -> tuple[list[Cell], int]:
    """Return the cells as the study knows them, and how many it knows of images that have changed."""
    known = [earlier.recognise(cell.config) for cell in cells]
    earlier.pin()
    recognised = [
        replace(cell, config=config, hash=config.cell_hash)
        for cell, (config, _) in zip(cells, known, strict=True)
    ]
    return recognised, sum(stale for _, stale in known)


def _deleted(records: Collection[TrialRecord], tracker: Tracker) -> int:
    """Return how many trials have ended and had a run that no longer exists."""
    runs = {record.run_id for record in records if record.run_id is not None}
    try:
        missing = tracker.missing_runs(runs)
    except TrackingError:  # it is away, which is no reason not to queue anything
        return 0
    return sum(record.trial.state.is_finished() and record.run_id in missing for record in records)


def _with_every_point(grid: Grid, cells: Sequence[Cell]) -> Grid:
    """Return `grid` with its cells as the points to try, and a budget of as many trials."""
    assert grid.search is not None
    search = replace(grid.search, enqueue=tuple(cell.point for cell in cells))
    return replace(grid, search=search, budget=grid.budget.model_copy(update={"trials": len(cells)}))


def _open(
    grid: Grid,
    cells: Sequence[Cell],
    storage: PatientStorage,
    tracker: Tracker,
    on_progress: Callable[[int, int], None],
) -> Submission | tuple[TrialQueue, Run, dict[str, TrialRecord], int]:
    """Open the study and its run; return the trials of its cells and the newest one's id; of a search, all done."""
    with alone(storage.engine, f"study {grid.name}"):
        queue = _open_study(grid, cells[0].config, storage)
        run = _open_run(grid, cells[0].config, queue, tracker)
        if grid.search is not None:
            keep_to_images(queue, (cell.config for cell in cells))
            log_planned(run, tracker, Planned(grid.text, grid.overrides))
            queue.note(StudyKey.PLANNED, [])  # all of a search's trials count
            searched = _with_every_point(grid, cells) if grid.search.tries_every_point else grid
            added, present = fill_slots(searched, queue, on_progress)
            if queue.waits():
                queue.note(StudyKey.CONCLUDED, False)
            deleted = _deleted(queue.newest().values(), tracker)
            return Submission(queue, run, added, present, 0, 0, unit="trial", deleted=deleted)
        forget_search(queue)
        if queue.waits():
            queue.note(StudyKey.CONCLUDED, False)
        _, last = queue.cells_since(0)
        return queue, run, queue.newest(), last


@dataclass
class _Turns:
    """Queueing beside others who queue the same; `known` are the cells' trials up to the one with the id `last`."""

    grid: Grid
    queue: TrialQueue
    known: Mapping[str, TrialRecord]
    last: int
    since: set[str] = field(default_factory=set)  # cells queued after it, by anybody

    def take(self, cells: Sequence[Cell]) -> int:
        """Queue those of `cells` that nobody else has queued in the meantime; return how many."""
        time.sleep(_PAUSE)  # or this process would have a file's lock again before those who wait are awake
        return self.queue.storage.patiently(lambda: self._take(cells))

    def _take(self, cells: Sequence[Cell]) -> int:
        with self.queue.locked():
            cells_since, self.last = self.queue.cells_since(self.last)
            self.since |= cells_since
            mine = [cell for cell in cells if cell.hash not in self.since]
            if mine:
                codec = accept_grid(self.grid.space, self.queue)
                for cell in mine:
                    self._add(cell, codec)
                self.queue.note(StudyKey.CONCLUDED, False)
        return len(mine)

    def _add(self, cell: Cell, codec: Codec) -> None:
        if cell.hash in self.known:
            requeue(self.queue, self.known[cell.hash])
            return
        params = codec.encode(cell.point)
        self.queue.add(cell.config, cell.label, params, {name: codec.distributions[name] for name in params})


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


def _open_study(grid: Grid, config: TrialConfig, storage: PatientStorage) -> TrialQueue:
    objectives = _objectives(grid, config)
    queue, directions = open_study(storage, grid.name, list(objectives.values()))
    study = queue.record()
    names = list(study.objectives) or ([study.monitor] if study.monitor else list(objectives))
    known = list(zip(names, directions, strict=False))
    if known != list(objectives.items()) or len(directions) != len(names):
        raise StudyError(
            f"Study '{grid.name}' exists and compares by {_named(known)}, "
            f"but the grid monitors {_named(objectives.items())}; give the grid another `name`"
        )
    if queue.is_cancelled():
        raise StudyError(f"Study '{grid.name}' was cancelled; `lab resume {grid.name}` lets it go on")
    queue.note(StudyKey.OBJECTIVES, list(objectives))
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
    tags = {Tag.STUDY: grid.name, Tag.KIND: "study"}
    experiment = tracker.experiment(grid.name)
    known = tracker.find_runs(experiment, tags)
    varied = [dimension.name for dimension in grid.space.dimensions]
    tracker.present(experiment, description=grid.description, varied=varied, descending=config.mode == "max")
    tags |= {
        Tag.DIRECTION: _direction(config),
        Tag.MONITOR: config.monitor,
        Tag.VARIED: json.dumps(varied),
        Tag.OBJECTIVES: json.dumps(_objectives(grid, config)),
        Tag.NOTE: grid.description,
    }
    run = tracker.open_run(
        name=grid.name, experiment=experiment, tags=tags, run_id=known[0] if known else None
    )
    run.log_text(grid.text, "grid.yaml")
    facts = {
        StudyKey.EXPERIMENT: grid.name,
        StudyKey.RUN_ID: run.run_id,
        StudyKey.MONITOR: config.monitor,
        StudyKey.MAXIMIZE: config.mode == "max",
        StudyKey.MAX_RETRIES: grid.max_retries,
        StudyKey.SECONDS: grid.budget.seconds,
        StudyKey.BEGAN: None,
        StudyKey.GPU_MEMORY: grid.gpu_memory,
        StudyKey.NEEDS: [needed.name for needed in load_needs(grid)],
    }
    for key, value in facts.items():
        queue.note(key, value)
    return run
