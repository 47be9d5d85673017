"""A sweep: a grid is checked, queued, trained by workers, and concluded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lab.config import Grid
from lab.data import Dataset, clear_cache, load_data
from lab.engines.ending import Ending, SweepResult, conclude, get_ready, requeue_dead
from lab.engines.engine_notes import EngineNotes, telling
from lab.engines.filling import Filler
from lab.engines.launcher import Launcher
from lab.engines.notebook import notebook_progress
from lab.engines.notices import Notices, check_notify
from lab.engines.planning import Planned, check, open_tracker
from lab.engines.processes import ProcessLauncher
from lab.engines.progress import Progress
from lab.engines.seats import Sharing
from lab.engines.setbacks import Setbacks
from lab.engines.stores import Stores
from lab.engines.supervisor import Supervisor
from lab.engines.watching import Recounting, progress_of
from lab.errors import LabError, LabWarning
from lab.models import fetch_all_weights
from lab.study import (
    EpochEnded,
    Event,
    Filling,
    Submission,
    TrialEnded,
    TrialQueue,
    WorkerFailed,
    end_stale,
    note_if_exhausted,
    open_storage,
    open_submission,
    requeue_failed,
)
from lab.study.storage import PatientStorage
from lab.tracking import Tracker
from lab.training import Outcome

__all__ = ["sweep"]


def sweep(
    grid: Grid,
    stores: Stores | None = None,
    *,
    workers: int | None = None,
    workers_per_gpu: int | None = None,
    gpu_memory: int | None = None,
    launcher: Launcher | None = None,
    elsewhere: bool = False,
    download: bool = False,
    retry_failed: bool = False,
    on_data: Callable[[Dataset], None] = lambda dataset: None,
    on_plan: Callable[[Submission, Progress], None] = lambda submission, progress: None,
    on_progress: Callable[[Progress], None] | None = None,
    on_queued: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Train every cell of `grid` that its study has not trained yet, after the studies that it needs.

    Args:
        grid: from `load_grid`.
        stores: where studies and runs are kept.
        workers: maximum number of workers; by default one per GPU, or per core of a machine without GPUs.
        workers_per_gpu: how many workers share a GPU.
        gpu_memory: bytes of GPU memory that one trial needs, to count `workers_per_gpu`; by default the grid file's.
        launcher: what starts the workers; processes of this machine by default.
        elsewhere: whether they run on other machines: one of these that cannot train does not end the sweep, as long
            as others can.
        download: whether missing data and pretrained weights may be downloaded.
        retry_failed: also train again what failed before.
        on_data: called with the data of each study's first cell, before anything is queued.
        on_plan: called once the first cells of a study are queued, before one is trained; the others are queued
            meanwhile.
        on_progress: called when something has happened, and twice a second; in a notebook, the progress is shown if
            None.
        on_queued: called while cells are queued, with how many are and how many will be.
        should_stop: asked twice a second; True lets running trials checkpoint and returns them to the queue.

    Returns:
        How the study of `grid` ended, or the first of those it needs that was not completed.

    Raises:
        ConfigError: cells that cannot be trained, a number of workers below 1, both `workers_per_gpu` and `gpu_memory`,
            or addresses of `notify` that are not there; no trial has started.
        LabError: the data is missing, a store cannot be used, or a worker could not go on.
    """
    stores = stores or Stores()
    on_progress = on_progress or notebook_progress() or (lambda progress: None)
    planned = check(grid)
    notifies = {each.grid.name: each.grid.notify for each in planned}
    check_notify(notifies.values())
    launcher = ProcessLauncher() if launcher is None else launcher  # its imports run while this process plans
    sharing = _sharing(launcher, planned, workers, workers_per_gpu, gpu_memory)
    tracker = open_tracker(planned, stores)
    _load(planned, on_data, download=download)
    storage = open_storage(stores.storage, should_stop=should_stop)
    most = (workers or 1) if elsewhere else None
    with Notices(tracker, stores.tracking_uri, notifies, _warn) as notices:
        sweeper = _Sweeper(
            stores.for_sweep(),
            tracker,
            launcher,
            sharing,
            notices,
            most,
            retry_failed,
            on_plan,
            on_progress,
            should_stop,
        )
        return sweeper.sweep_all(planned, storage, on_queued)


def _warn(message: str) -> None:
    warnings.warn(message, LabWarning, stacklevel=2)


def _load(planned: Iterable[Planned], on_data: Callable[[Dataset], None], *, download: bool) -> None:
    """Load the data of each study once: that checks that it is there, and fills the cache on disk for all workers.

    Pretrained weights are fetched, too.
    """
    for each in planned:
        fetch_all_weights((cell.config for cell in each.cells), download=download)
        on_data(load_data(each.cells[0].config, download=download))
        clear_cache()  # workers have their own; this process does not need the memory


def _sharing(
    launcher: Launcher,
    planned: Iterable[Planned],
    workers: int | None,
    workers_per_gpu: int | None,
    gpu_memory: int | None,
) -> Sharing:
    """Return how workers share the devices; raise if no GPU has as much memory as a trial of any study needs."""
    sharing = Sharing(launcher.devices(), workers, workers_per_gpu, gpu_memory)
    for each in planned:
        sharing.shares(each.grid.gpu_memory)
    return sharing


@dataclass(frozen=True)
class _Sweeper:
    """What the sweeps of a study, and of those that it needs, have in common; most fields are arguments of `sweep`.

    `elsewhere` is how many workers run on other machines, None if none does.
    """

    stores: Stores
    tracker: Tracker
    launcher: Launcher
    sharing: Sharing
    notices: Notices
    elsewhere: int | None
    retry_failed: bool
    on_plan: Callable[[Submission, Progress], None]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]

    def sweep_all(
        self, planned: Iterable[Planned], storage: PatientStorage, on_queued: Callable[[int, int], None]
    ) -> SweepResult:
        """Queue and train one study after another, until one does not come to its end."""
        *needed, last = planned
        for each in (*needed, last):
            filling = open_submission(each.grid, each.cells, storage, self.tracker)
            result = self.sweep(each.grid, filling, on_queued, to_the_end=each is not last)
            if result.ending != "done":
                break
        return result

    def sweep(
        self, grid: Grid, filling: Filling, on_queued: Callable[[int, int], None], *, to_the_end: bool
    ) -> SweepResult:
        """Train what waits in the study of `grid` while the rest of it is queued, and conclude it.

        With `to_the_end`, wait for what other processes train of it, too: other studies need it.
        """
        ending: Ending = "stopped"
        try:
            if filling.left:
                on_queued(0, filling.total)
                filling.take_turn()
            self._train(filling, to_the_end=to_the_end)
            # where the last worker stopped for another reason before it saw that
            note_if_exhausted(grid, filling.queue)
            ending = self._ending(filling.queue)
        finally:
            result = conclude(filling.queue, filling.submission.run, self.tracker, ending)
        return result

    def _train(self, filling: Filling, *, to_the_end: bool) -> None:
        submission, queue = filling.submission, filling.queue
        requeue_dead(queue, self.tracker)
        if self.retry_failed:
            requeue_failed(queue)
            end_stale(queue, queue.records(), self.tracker)
        progress = replace(progress_of(queue), running={}, ended=[], notes=[])
        progress.total += filling.left
        self.on_plan(submission, progress)
        if not queue.is_over():  # otherwise everybody was told
            self.notices.hear(queue)
        setbacks = Setbacks(self.elsewhere)
        with telling() as noted, Filler(filling) as filler:
            policy = _UntilOver(
                queue,
                filler,
                progress,
                Recounting(progress, queue),
                self.launcher,
                noted,
                self.notices,
                setbacks,
                self.on_progress,
                self.should_stop,
                to_the_end,
            )
            get_ready()
            Supervisor(self.launcher, self.sharing, self.stores, self.tracker, policy).run()
        if policy.error is not None:
            raise policy.error

    def _ending(self, queue: TrialQueue) -> Ending:
        if self.should_stop():
            return "stopped"
        if queue.is_cancelled():
            return "cancelled"
        return queue.held_back() or "done"


@dataclass
class _UntilOver:
    """The policy of a sweep: one study, until it is over or a failure stops it."""

    queue: TrialQueue
    filler: Filler
    progress: Progress
    recounting: Recounting
    launcher: Launcher
    noted: EngineNotes
    notices: Notices
    setbacks: Setbacks
    on_progress: Callable[[Progress], None]
    asked_to_stop: Callable[[], bool]
    to_the_end: bool
    error: Exception | None = None
    stop_seconds: float = math.inf  # a second Ctrl-C ends the waiting
    rivals: Sequence[str] | None = None

    def should_stop(self) -> bool:
        """Return whether the sweep was asked to stop, or has failed."""
        return self.error is not None or self.asked_to_stop()

    def studies(self) -> list[TrialQueue]:
        """Return the study."""
        return [self.queue]

    def ready(self) -> list[TrialQueue]:
        """Return the study if trials of it may start, and workers were not failing just now."""
        return [self.queue] if self._waits() and not self.setbacks.pauses else []

    def is_over(self) -> bool:
        """Return whether no trial waits nor will, nor one that a worker took along which was killed before it said so.

        `to_the_end`, nor does another process train any.

        Raises:
            Exception: the cells cannot all be queued.
        """
        if not self.filler.is_done() or self._waits() or self.queue.is_disowned():
            return False
        return not self.to_the_end or self.queue.is_cancelled() or self.queue.is_over()

    def settle(self, queue: TrialQueue) -> None:
        """Do nothing: the sweep concludes its study at the end."""

    def hear(self, queue: TrialQueue, worker: int | None, event: Event) -> None:
        """Note progress; a worker that could not go on fails the sweep, unless only its node is to blame."""
        if isinstance(event, WorkerFailed):
            self._bear(LabError(event.error), is_nodes=True)
        elif isinstance(event, EpochEnded) or (
            isinstance(event, TrialEnded) and event.outcome != Outcome.KILLED
        ):
            self.setbacks.clear()
        self.progress.take(worker, event)
        if not isinstance(event, EpochEnded):
            self.notices.hear(queue)

    def fail(self, queue: TrialQueue | None, error: Exception) -> None:
        """Fail the sweep, unless other workers can train."""
        if queue is None:
            self.error = self.error or error
        else:
            self._bear(error, is_nodes=False)

    def tick(self) -> None:
        """Show the progress, and note in the study what the engine says."""
        self.progress.stopping = self.should_stop()
        if not self.progress.stopping:
            self.recounting.take_turn()
        self.progress.notes = [*self.launcher.notes(), *self.setbacks.notes]
        self.noted.tell([(self.queue, self.progress.notes)])
        self.on_progress(self.progress)
        self.notices.pass_on()

    def _bear(self, error: Exception, *, is_nodes: bool) -> None:
        """Bear with an error, or fail the sweep."""
        if not self.setbacks.add(error, others_train=bool(self.progress.running), is_nodes=is_nodes):
            self.error = self.error or error

    def _waits(self) -> bool:
        return self.queue.waits() and not self.queue.is_cancelled()
