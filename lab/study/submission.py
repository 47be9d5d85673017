"""Submitting a grid: its study and the study's run are opened, and the cells that are missing are queued once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lab.config import Grid, Space, TrialConfig, load_needs, logged_name
from lab.errors import StudyError, TrackingError
from lab.study.code import end_outdated, keep_code
from lab.study.distributions import Codec, accept_grid, accept_search
from lab.study.earlier import Earlier, end_stale, keep_to_files
from lab.study.keys import StudyKey
from lab.study.lock import locked
from lab.study.planner import Cell
from lab.study.queue import Queued, TrialQueue
from lab.study.record import TrialRecord, newest_of
from lab.study.rescue import requeued
from lab.study.search.budget import drop_search, fill_budget
from lab.study.storage import PatientStorage
from lab.study.studies import open_study
from lab.tracking import Run, Tracker
from lab.tracking.planned import Planned, log_planned
from lab.tracking.tags import Tag

__all__ = ["Filling", "Submission", "open_submission", "submit"]

_TURN = 200  # cells queued before other processes that want the study's lock get it
_PAUSE = 0.002


@dataclass(frozen=True)
class Submission:
    """What submitting a grid did.

    Attributes:
        queue: of the study.
        run: of the study.
        added: cells queued; of a search, trials.
        present: cells that were there already.
        skipped: cells that are not feasible.
        gone: cells of the study that the file no longer names; they are left alone.
        unit: what is counted: `cell` or `trial`.
        stale: of the cells added, how many the study has of images that have changed since.
        unverified: of those present, how many an earlier version of lab has trained on images that are not known.
        deleted: of those present, how many have ended and have lost their run.
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


def submit(
    grid: Grid,
    cells: Sequence[Cell],
    storage: PatientStorage,
    tracker: Tracker,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Submission:
    """Open the study of `grid` and its run, and queue the cells that the study does not have yet.

    Any number of processes may do so at once: each cell is queued once. They take turns, some hundred cells each.

    Args:
        grid: the grid file.
        cells: from `feasible_cells`.
        storage: the study database.
        tracker: where the study's experiment and run are.
        on_progress: called with the number of cells queued so far and their total.

    Raises:
        StudyError: a study of this name compares by another metric, or is cancelled.
    """
    filling = open_submission(grid, cells, storage, tracker)
    while filling.left:
        on_progress(filling.total - filling.left, filling.total)
        filling.take_turn()
    return filling.submission


def open_submission(grid: Grid, cells: Sequence[Cell], storage: PatientStorage, tracker: Tracker) -> Filling:
    """Open the study of `grid` and its run; what the study lacks is queued by the turns of the result.

    Raises:
        StudyError: as `submit` does.
    """
    opened = storage.patiently(lambda: _open(grid, cells, storage, tracker))
    if isinstance(opened, Submission):
        return Filling(opened, grid.space)
    queue, run, records, last = opened
    keep_code(queue, (cell.config for cell in cells))
    if end_stale(queue, records, tracker) + end_outdated(queue, records):
        records = queue.records()
    newest = newest_of(records)
    earlier = Earlier(queue, newest, lambda: tracker)
    cells, stale = _recognised(cells, earlier)
    planned = Planned(grid.text, grid.overrides, tuple(cell.hash for cell in cells))
    planned = log_planned(run, tracker, planned, partial=grid.only is not None)
    queue.note(StudyKey.PLANNED, list(planned.cells))
    missing = [cell for cell in cells if cell.hash not in newest or newest[cell.hash].lacks_successor]
    submission = Submission(
        queue,
        run,
        added=len(missing),
        present=len(cells) - len(missing),
        skipped=grid.space.size - len(cells),
        gone=0 if grid.only else len(newest.keys() - {cell.hash for cell in cells}),
        stale=stale,
        unverified=earlier.unverified,
        deleted=_deleted([newest[cell.hash] for cell in cells if cell.hash in newest], tracker),
    )
    return Filling(submission, grid.space, missing, newest, last)


def _recognised(cells: Sequence[Cell], earlier: Earlier) -> tuple[list[Cell], int]:
    """Return the cells as the study knows them, and how many it has of images that have changed since."""
    known = [earlier.recognise(cell.config) for cell in cells]
    earlier.pin()
    recognised = [
        cell if config is cell.config else replace(cell, config=config, hash=config.cell_hash)
        for cell, (config, _) in zip(cells, known, strict=True)
    ]
    return recognised, sum(stale for _, stale in known)


def _deleted(records: Collection[TrialRecord], tracker: Tracker) -> int:
    """Return how many trials have ended and had a run that no longer exists."""
    runs = {record.run_id for record in records if record.run_id is not None}
    try:
        missing = tracker.missing_runs(runs)
    except TrackingError:  # it is unreachable, which is no reason not to queue anything
        return 0
    ended = [one for one in records if one.trial.state.is_finished() and not one.lacks_successor]
    return sum(record.run_id in missing for record in ended)


def _with_every_point(grid: Grid, cells: Sequence[Cell]) -> Grid:
    """Return `grid` with its cells as the points to try, and a budget of as many trials."""
    assert grid.search is not None
    search = replace(grid.search, enqueue=tuple(cell.point for cell in cells))
    return replace(grid, search=search, budget=grid.budget.model_copy(update={"trials": len(cells)}))


def _open(
    grid: Grid, cells: Sequence[Cell], storage: PatientStorage, tracker: Tracker
) -> Submission | tuple[TrialQueue, Run, list[TrialRecord], int]:
    """Open the study and its run; return them with its trials and the id of the newest.

    A search is submitted here as a whole.
    """
    with locked(storage.engine, f"study {grid.name}", storage.should_stop):
        queue = _open_study(grid, cells[0].config, storage)
        _accept(grid, cells, queue)  # first: a refusal leaves the run of a study that is over as it was
        run = _open_run(grid, cells[0].config, queue, tracker)
        if grid.search is not None:
            log_planned(run, tracker, Planned(grid.text, grid.overrides))
            queue.note(StudyKey.PLANNED, [])  # all of a search's trials count
            searched = _with_every_point(grid, cells) if grid.search.tries_every_point else grid
            added, present = fill_budget(searched, queue)
            if queue.waits():
                queue.note(StudyKey.CONCLUDED, False)
            deleted = _deleted(queue.newest().values(), tracker)
            return Submission(queue, run, added, present, 0, 0, unit="trial", deleted=deleted)
        drop_search(queue)
        if queue.waits():
            queue.note(StudyKey.CONCLUDED, False)
        records = queue.records()
        return queue, run, records, records[-1].trial_id if records else 0


@dataclass
class Filling:
    """Queues what a study lacks of a grid, in turns with other processes that queue the same cells.

    Workers may train the first cells while the others are queued. Were this process killed in between, the next one
    that submits the grid would queue the rest.

    Attributes:
        submission: what is done once no cell is left.
        space: of the grid.
        missing: the cells that were not in the study when it was opened; fewer by each turn.
        known: trials of the study's cells at that time.
        last: id of the last trial that was looked at.
        since: cells that anybody has queued meanwhile.
    """

    submission: Submission
    space: Space
    missing: Sequence[Cell] = ()
    known: Mapping[str, TrialRecord] = field(default_factory=dict)
    last: int = 0
    since: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.total = len(self.missing)
        self.queue = self.submission.queue

    @property
    def left(self) -> int:
        """How many cells are still to be queued."""
        return len(self.missing)

    def take_turn(self) -> None:
        """Queue the next cells, except those that other processes have queued meanwhile."""
        turn, rest = self.missing[:_TURN], self.missing[_TURN:]
        time.sleep(
            _PAUSE
        )  # or this process would take a file's lock again before those that wait for it wake up
        others = len(turn) - self.queue.storage.patiently(lambda: self._take(turn))
        done = self.submission
        self.submission = replace(done, added=done.added - others, present=done.present + others)
        self.missing = rest

    def _take(self, cells: Sequence[Cell]) -> int:
        with self.queue.locked():
            cells_since, self.last = self.queue.cells_since(self.last)
            self.since |= cells_since
            mine = [cell for cell in cells if cell.hash not in self.since]
            if mine:
                codec = accept_grid(self.space, self.queue)
                self.queue.enqueue(self._queued(cell, codec) for cell in mine)
                self.queue.note(StudyKey.CONCLUDED, False)
        return len(mine)

    def _queued(self, cell: Cell, codec: Codec) -> Queued:
        if cell.hash in self.known:
            return requeued(self.known[cell.hash])
        params = codec.encode(cell.point)
        distributions = {name: codec.distributions[name] for name in params}
        return Queued.cell(cell.config, cell.label, params, distributions)


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
        raise StudyError(f"Study '{grid.name}' was cancelled; `lab resume {grid.name}` resumes it")
    queue.note(StudyKey.OBJECTIVES, list(objectives))
    return queue


def _accept(grid: Grid, cells: Sequence[Cell], queue: TrialQueue) -> None:
    """Make the study accept what `grid` trains.

    Raises:
        StudyError: it cannot hold its parameters, or it is a search that began with other images, weights or code.
    """
    if grid.search is None:
        accept_grid(grid.space, queue)
        return
    keep_to_files(queue, (cell.config for cell in cells))
    keep_code(queue, (cell.config for cell in cells), search=True)
    accept_search(grid.space, queue)


def _objectives(grid: Grid, config: TrialConfig) -> dict[str, Literal["maximize", "minimize"]]:
    """Return the metrics that compare a study's trials, and the direction of each."""
    if grid.search is None:
        return {config.monitor: _direction(config)}
    return {objective.metric: objective.direction for objective in grid.search.objectives}


def _named(objectives: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({direction})" for name, direction in objectives)


def _direction(config: TrialConfig) -> Literal["maximize", "minimize"]:
    return "maximize" if config.mode == "max" else "minimize"


def _open_run(grid: Grid, config: TrialConfig, queue: TrialQueue, tracker: Tracker) -> Run:
    """Open the study's own run, under which its trials' runs are shown."""
    tags = {Tag.STUDY: grid.name, Tag.KIND: "study"}
    experiment = tracker.experiment(grid.name)
    known = tracker.find_runs(experiment, tags)
    varied = [dimension.name for dimension in grid.space.dimensions]
    tracker.present(
        experiment,
        description=grid.description,
        varied=varied,
        descending=config.mode == "max",
        metrics=[logged_name(name) for name in config.metrics],
    )
    tags |= {
        Tag.DIRECTION: _direction(config),
        Tag.MONITOR: config.monitor,
        Tag.VARIED: json.dumps(varied),
        Tag.OBJECTIVES: json.dumps(_objectives(grid, config)),
    }
    if not (known and tracker.tags(known[0]).get(Tag.NOTE)):  # a note of the user's stays
        tags[Tag.NOTE] = grid.description
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
        StudyKey.MAX_FAILURES: grid.max_failures,
        StudyKey.FORGIVEN: queue.failed(),
        StudyKey.SECONDS: grid.budget.seconds,
        StudyKey.BEGAN: None,
        StudyKey.GPU_MEMORY: grid.gpu_memory,
        StudyKey.NOTIFY: None if grid.notify is None else grid.notify.as_values(),
        StudyKey.NEEDS: [needed.name for needed in load_needs(grid)],
    }
    if grid.priority is not None:  # otherwise it keeps what `lab priority` has said
        facts[StudyKey.PRIORITY] = grid.priority
    for key, value in facts.items():
        queue.note(key, value)
    return run
