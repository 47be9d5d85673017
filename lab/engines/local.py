"""A sweep on this machine: plans a grid into its study and keeps workers on it until all is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lab.config import Grid
from lab.data import Dataset, clear_cache, load_data
from lab.engines.ending import Ending, SweepResult, conclude, end_run, requeue_dead
from lab.engines.launcher import Exited
from lab.engines.planning import check, open_tracker
from lab.engines.processes import ProcessLauncher
from lab.engines.progress import Progress
from lab.engines.seats import Seat, Seats, Sharing
from lab.engines.service import MOST_KILLED, unbegun
from lab.engines.stores import Stores
from lab.engines.waking import Sleep
from lab.engines.watching import progress_of
from lab.errors import LabError
from lab.study import (
    Submission,
    TrialQueue,
    TrialStarted,
    WorkerFailed,
    WorkerSettings,
    end_stale,
    note_if_exhausted,
    open_storage,
    put_back_dead,
    requeue_failed,
    submit,
)
from lab.tracking import RunStatus, Tracker
from lab.tracking.tags import Tag

__all__ = ["sweep"]

_TICK = 0.5  # seconds between looks at the clock and at `should_stop`


def sweep(
    grid: Grid,
    stores: Stores | None = None,
    *,
    workers: int | None = None,
    download: bool = False,
    retry_failed: bool = False,
    on_data: Callable[[Dataset], None] = lambda dataset: None,
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
        on_data: called with the data of each study's first cell, before anything is queued.
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
    planned = check(grid)
    launcher = ProcessLauncher()  # imports what workers share while this process plans
    tracker = open_tracker(planned, stores)
    for each in planned:
        # finds out that it is there, and fills its cache, for all
        on_data(load_data(each.cells[0].config, download=download))
        clear_cache()  # the workers have their own; this process needs the memory for nothing
    storage = open_storage(stores.storage, should_stop=should_stop)
    sweeper = _Sweeper(stores, tracker, launcher, workers, retry_failed, on_plan, on_progress, should_stop)
    for each in planned:
        result = sweeper.sweep(each.grid, submit(each.grid, each.cells, storage, tracker, on_queued))
        if result.ending != "done":
            break
    return result


@dataclass(frozen=True)
class _Sweeper:
    """What the sweeps of a study, and of those that it needs, have in common; the fields are arguments of `sweep`."""

    stores: Stores
    tracker: Tracker
    launcher: ProcessLauncher
    workers: int | None
    retry_failed: bool
    on_plan: Callable[[Submission, Progress], None]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]

    def sweep(self, grid: Grid, submission: Submission) -> SweepResult:
        """Train what waits in the study of `grid`."""
        queue = submission.queue
        requeue_dead(queue, self.tracker)
        if self.retry_failed:
            requeue_failed(queue)
            end_stale(queue, self.tracker)
        settings = self.stores.for_worker(grid.name)
        progress = replace(progress_of(queue), running={}, ended=[])
        self.on_plan(submission, progress)
        ending: Ending = "stopped"
        try:
            sharing = Sharing(self.launcher.devices(), self.workers)
            _Sweep(
                settings,
                queue,
                self.tracker,
                progress,
                self.on_progress,
                self.should_stop,
                self.launcher,
                sharing,
                sharing.seats(),
            ).run()
            note_if_exhausted(
                grid, queue
            )  # where the last worker stopped for another reason before it saw that
            ending = "stopped" if self.should_stop() else "cancelled" if queue.is_cancelled() else "done"
            ending = "out_of_time" if ending == "done" and queue.is_out_of_time() else ending
        finally:
            result = conclude(queue, submission.run, self.tracker, ending)
        return result


@dataclass
class _Sweep:
    settings: WorkerSettings
    queue: TrialQueue
    tracker: Tracker
    progress: Progress
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    launcher: ProcessLauncher
    sharing: Sharing
    seats: Seats
    seated: dict[int, Seat] = field(default_factory=dict)
    killed: int = 0  # workers, since the last that began a trial
    error: str = ""
    sleep: Sleep = field(default_factory=Sleep)

    def run(self) -> None:
        """Keep as many workers as there are seats until nothing is left that they could do.

        Raises:
            LabError: a worker could not go on.
        """
        pool = self.launcher
        try:
            for _ in range(self.progress.waiting):
                if not self._start():
                    break
            while len(pool):
                self._step(pool)
                if not len(pool) and self._left_over():
                    self._start()
        except BaseException:  # a second Ctrl-C, or an error in a callback: leave no worker behind
            pool.kill()
            for trial in put_back_dead(self.queue):
                tags = {Tag.OUTCOME: "killed"}
                end_run(trial, self.queue, self.tracker, RunStatus.KILLED, tags)
            raise
        if self.error:
            raise LabError(self.error)

    def _start(self) -> bool:
        seat = self.seats.take(self.sharing.shares())
        if seat is not None:
            self.seated[self.launcher.start(self.settings, seat)] = seat
        return seat is not None

    def _step(self, pool: ProcessLauncher) -> None:
        self.sleep.pass_over()
        if self.should_stop() and not self.progress.stopping:
            self._stop(pool)
        for worker, event in pool.listen(_TICK):
            if isinstance(event, TrialStarted):
                self.killed = 0
            if isinstance(event, Exited):
                self.seats.free(self.seated.pop(worker))
                self._ended(worker, event, pool)
            elif isinstance(event, WorkerFailed):
                self._fail(event.error, pool)
            else:
                self.progress.take(worker, event)
        self.on_progress(self.progress)

    def _ended(self, worker: int, exited: Exited, pool: ProcessLauncher) -> None:
        """Replace a worker that died, and queue the trial again that it had."""
        self.killed += exited.code < 0
        if worker not in self.progress.running:
            hopeless = exited.code > 0 or self.killed >= MOST_KILLED
            if hopeless and not self.progress.stopping:
                self._fail(f"Worker {worker} {unbegun(exited)}", pool)
            if hopeless or not exited.code:
                return
        self.progress.lose(worker)
        self.progress.failed += requeue_dead(
            self.queue, self.tracker, exited.code
        )  # it may just have claimed one
        if not self.progress.stopping:
            self._start()

    def _left_over(self) -> bool:
        """Whether a trial waits that was taken along by a worker killed before it could say whose it was.

        Such a trial shows as dead only after a while.
        """
        while not self.progress.stopping and not self.should_stop() and self.queue.is_disowned():
            time.sleep(_TICK)
            self.progress.failed += requeue_dead(self.queue, self.tracker)
            self.on_progress(self.progress)
        over = self.progress.stopping or self.should_stop()
        return not over and self.queue.waits() and not self.queue.is_cancelled()

    def _fail(self, error: str, pool: ProcessLauncher) -> None:
        self.error = error
        self._stop(pool)

    def _stop(self, pool: ProcessLauncher) -> None:
        self.progress.stopping = True
        pool.stop()
