"""A sweep on this machine: plans a grid into its study and keeps workers on it until all is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from lab.config import Grid, load_needs
from lab.data import clear_cache, load_data
from lab.engines.pool import Exited, Pool, warm_up
from lab.engines.progress import Progress
from lab.errors import LabError
from lab.report import leaderboard, publish_leaderboard
from lab.study import (
    Submission,
    TrialQueue,
    WorkerFailed,
    WorkerSettings,
    cell_states,
    check_stored_origins,
    feasible_cells,
    open_storage,
    search_is_over,
    submit,
)
from lab.tracking import RunStatus, Tracker, connect, prepare
from lab.training import cores

__all__ = ["Stores", "SweepResult", "sweep"]

_TICK = 0.5  # seconds between looks at the clock and at `should_stop`


@dataclass(frozen=True)
class Stores:
    """Where studies, runs, artifacts and checkpoints are kept; by default below `.lab` in the working directory."""

    storage: str = "sqlite:///.lab/optuna.db"
    tracking_uri: str = "sqlite:///.lab/mlflow.db"
    artifact_dir: Path = Path(".lab/artifacts")
    checkpoint_dir: Path = Path(".lab/checkpoints")


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended: the study's leaderboard, its trials by state, and whether all that could be done is."""

    study: str
    experiment: str  # its id
    leaderboard: pd.DataFrame
    states: dict[str, int]
    ending: Literal["done", "stopped", "out_of_time"]

    @property
    def failed(self) -> int:
        """Cells that failed."""
        return self.states.get("failed", 0)

    @property
    def status(self) -> RunStatus:
        """The status of the study's run."""
        if self.ending != "done":
            return RunStatus.KILLED
        return RunStatus.FAILED if self.failed else RunStatus.FINISHED


def sweep(
    grid: Grid,
    stores: Stores | None = None,
    *,
    workers: int | None = None,
    download: bool = False,
    retry_failed: bool = False,
    on_plan: Callable[[Submission, Progress], None] = lambda submission, progress: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_queued: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Train every cell of `grid` that its study has not trained yet, after the studies that it needs.

    Args:
        grid: from `load_grid`.
        stores: where studies and runs are kept.
        workers: processes to train with; by default what fits the cores (or one for each GPU).
        download: whether a missing dataset may be downloaded.
        retry_failed: also train again what failed before.
        on_plan: called once all cells of a study are queued, before the first is trained.
        on_progress: called when something has happened, and twice a second.
        on_queued: called while cells are queued with how many are, and how many there are to be.
        should_stop: asked twice a second; True lets running trials checkpoint and puts them back.

    Returns:
        How the study of `grid` ended, or the first of those it needs that did not come to its end.

    Raises:
        ConfigError: cells that cannot be trained; nothing is spent.
        LabError: the data is missing, or a store cannot be used.
    """
    stores = stores or Stores()
    needed = load_needs(grid)
    planned = [(each, feasible_cells(each)) for each in (*needed, grid)]  # all, before anything is spent
    warm_up()
    prepare(stores.tracking_uri)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    for _, cells in planned:
        check_stored_origins((cell.config for cell in cells), needed, tracker)
        load_data(
            cells[0].config, download=download
        )  # finds out that it is there, and fills its cache, for all
        clear_cache()  # the workers have their own; this process needs the memory for nothing
    storage = open_storage(stores.storage)  # creates what is not there, before several processes look
    for each, cells in planned:
        submission = submit(each, cells, storage, tracker, on_queued)
        result = _sweep_study(
            each, submission, stores, tracker, workers, retry_failed, on_plan, on_progress, should_stop
        )
        if result.ending != "done":
            break
    return result


def _sweep_study(
    grid: Grid,
    submission: Submission,
    stores: Stores,
    tracker: Tracker,
    workers: int | None,
    retry_failed: bool,
    on_plan: Callable[[Submission, Progress], None],
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> SweepResult:
    """Train what waits in the study of `grid`; the arguments are those of `sweep`."""
    queue = submission.queue
    _requeue_dead(queue, tracker)
    if retry_failed:
        queue.requeue_failed()
    settings = WorkerSettings(
        study=grid.name,
        storage=stores.storage,
        tracking_uri=stores.tracking_uri,
        artifact_dir=stores.artifact_dir,
        checkpoint_dir=stores.checkpoint_dir,
        deadline=time.time() + grid.budget.seconds if grid.budget.seconds else None,
    )
    progress = _progress(grid.name, queue)
    on_plan(submission, progress)
    ending: Literal["done", "stopped", "out_of_time"] = "stopped"
    try:
        _Sweep(settings, queue, tracker, progress, on_progress, should_stop).run(workers)
        if should_stop():
            ending = "stopped"
        else:
            ending = "out_of_time" if queue.waits() and not search_is_over(grid, queue) else "done"
    finally:
        result = _conclude(submission, tracker, grid.name, ending)
    return result


@dataclass
class _Sweep:
    settings: WorkerSettings
    queue: TrialQueue
    tracker: Tracker
    progress: Progress
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    error: str = ""

    def run(self, workers: int | None) -> None:
        """Keep as many workers as asked for until nothing is left that they could do.

        Raises:
            LabError: a worker could not go on.
        """
        if not self.progress.waiting:
            return
        pool = Pool(self.settings, torch.cuda.device_count() if torch.cuda.is_available() else 0)
        try:
            for _ in range(min(workers or _fitting_workers(), self.progress.waiting)):
                pool.start()
            while len(pool):
                self._step(pool)
        except BaseException:  # a second Ctrl-C, or an error in a callback: leave no worker behind
            pool.kill()
            for trial in self.queue.put_back_dead():
                tags = {"lab.outcome": "killed"}
                _end_run(trial.user_attrs, self.queue, self.tracker, RunStatus.KILLED, tags)
            raise
        if self.error:
            raise LabError(self.error)

    def _step(self, pool: Pool) -> None:
        if self.should_stop() and not self.progress.stopping:
            self._stop(pool)
        for worker, event in pool.listen(_TICK):
            if isinstance(event, Exited):
                self._ended(worker, event.code, pool)
            elif isinstance(event, WorkerFailed):
                self._fail(event.error, pool)
            else:
                self.progress.take(worker, event)
        self.on_progress(self.progress)

    def _ended(self, worker: int, code: int, pool: Pool) -> None:
        """Replace a worker that died over its trial, and queue that trial again."""
        if worker not in self.progress.running:
            if code and not self.progress.stopping:  # another one would end likewise
                self._fail(f"Worker {worker} ended with exit code {code} before it began a trial", pool)
            return
        self.progress.lose(worker)
        self.progress.failed += _requeue_dead(self.queue, self.tracker)
        if not self.progress.stopping:
            pool.start()

    def _fail(self, error: str, pool: Pool) -> None:
        self.error = error
        self._stop(pool)

    def _stop(self, pool: Pool) -> None:
        self.progress.stopping = True
        pool.stop()


def _fitting_workers() -> int:
    """Return how many workers use this machine best: one a GPU, or one a core, with one thread each."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return cores()


def _requeue_dead(queue: TrialQueue, tracker: Tracker) -> int:
    """Queue the trials of dead workers again; close the runs of those given up, and return how many."""
    given_up = queue.requeue_dead()
    for trial in given_up:
        tags = {"lab.outcome": "failed", "lab.error": "its process died every time it was tried"}
        _end_run(trial.user_attrs, queue, tracker, RunStatus.FAILED, tags)
    return len(given_up)


def _end_run(
    trial: Mapping[str, Any], queue: TrialQueue, tracker: Tracker, status: RunStatus, tags: dict[str, str]
) -> None:
    """End the run that a dead worker left open.

    Args:
        trial: its trial's user attributes.
        queue: of the study.
        tracker: where the run is.
        status: to end it with.
        tags: to set on it.
    """
    run_id = trial.get("run_id")
    if run_id is not None:
        experiment = tracker.experiment(queue.attributes()["experiment"])
        run = tracker.open_run(name=trial["label"], experiment=experiment, tags=tags, run_id=run_id)
        run.end(status)


def _progress(study: str, queue: TrialQueue) -> Progress:
    states = list(cell_states(queue).values())
    attributes = queue.attributes()
    progress = Progress(
        study,
        attributes["monitor"],
        maximize=queue.maximizes(),
        total=len(states),
        done=states.count("complete") + states.count("pruned"),
        failed=states.count("failed"),
    )
    for trial in queue.completed():
        progress.improve(trial.user_attrs["label"], trial.user_attrs.get("best_value", trial.values[0]))
    return progress


def _conclude(
    submission: Submission,
    tracker: Tracker,
    study: str,
    ending: Literal["done", "stopped", "out_of_time"],
) -> SweepResult:
    states: dict[str, int] = {}
    for state in cell_states(submission.queue).values():
        states[state] = states.get(state, 0) + 1
    experiment = tracker.experiment(study)
    trials = leaderboard(tracker, experiment, study=study, repeats="each")
    frame = publish_leaderboard(submission.run, trials)
    result = SweepResult(study, experiment, frame, states, ending)
    if not states.get("running"):  # another sweep is at it, and ends the run when it is done
        submission.run.end(result.status)
    return result
