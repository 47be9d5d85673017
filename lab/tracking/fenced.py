"""The run in the store, as far as the attempt that writes to it may.

Nothing of an attempt that has lost its trial is written, except metric values that the run lacks once it has ended:
while it goes on elsewhere, the worker that trains it there logs all of them. A request that was under way when its
process fell asleep is completed when that wakes up; so what is deleted at the end of a run is then deleted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from lab.errors import TrackingError
from lab.hold import Hold, Lost
from lab.tracking.base import DeniedError, Metric, RunStatus, Tracker
from lab.tracking.fence import Fence
from lab.tracking.journal import RunJournal
from lab.tracking.pending import pending_id, pending_key, pending_name, run_in_store
from lab.tracking.run import Run
from lab.tracking.tags import Tag
from lab.tracking.writes import Batch, Dataset, File, Metrics, Open, Write

__all__ = ["FencedRun"]


class FencedRun:
    """Puts the writes of a journal to its run, opening the run when its journal says so.

    Args:
        journal: of the run; keeps the run's id and its latest attempt.
        tracker: the store.
        fresh: whether the journal has just been created, so that the store can have nothing of it.
    """

    def __init__(self, journal: RunJournal, tracker: Tracker, *, fresh: bool) -> None:
        self._journal = journal
        self._tracker = tracker
        self._fence = Fence(journal)
        self._run: Run | None = None
        self._untried = fresh  # the store has not been asked for the run yet

    @property
    def url(self) -> str | None:
        """The page of the run in the MLflow UI, None if no server shows it (yet)."""
        return None if self._run is None else self._run.url

    def register(self, attempt: str, hold: Hold) -> None:
        """Note the hold that an attempt of this process has on its trial."""
        self._fence.register(attempt, hold)

    def lose(self, attempt: str) -> None:
        """Note that an attempt has lost its trial."""
        self._fence.lose(attempt)

    def doubt(self) -> None:
        """Note that the store did not answer: another worker may open the run in the meantime."""
        self._fence.doubt()

    def is_running(self) -> bool:
        """Return whether the store has the run, and as RUNNING.

        Raises:
            TrackingError: the store failed.
        """
        run_id = self._journal.known_id
        if run_id is None or self._tracker.missing_runs([run_id]):
            return False
        return self._tracker.status(run_id) is RunStatus.RUNNING

    def put_unfenced(self, write: Write) -> None:
        """Put a write to the run if it is open, without asking whose it is; the store's failures are ignored."""
        if self._run is not None:
            with suppress(TrackingError):
                self._run.write(write)

    def put(self, write: Write) -> None:
        """Write to the store if the trial is still held; if not, only metric values that the run lacks."""
        if isinstance(write, Open):
            self._fence.begin(write.tags.get(Tag.ATTEMPT, ""))
        try:
            if not self._fence.is_lost:
                self._put_held(write)
        except Lost:
            self._fence.lose()
        if self._fence.is_lost and isinstance(write, Open):
            self._journal.note("attempt", self._fence.attempt)
        elif self._fence.is_lost and isinstance(write, Metrics | Batch) and write.metrics:
            self._put_missing(write.metrics)
        elif self._fence.is_lost and isinstance(write, File) and write.passing:
            self._take_back(write)
        self._fence.answered()

    def _put_held(self, write: Write) -> None:
        self._fence.confirm()
        if isinstance(write, Open):
            self._open(write)
            return
        run = self._opened()
        if self._fence.is_taken_over:
            return  # the attempt that has the run now decides what it says
        try:
            run.write(write.resolved(self._find))
        except DeniedError:
            if not write.is_optional:
                raise
        if isinstance(write, File) and write.passing:  # the process may have slept within the request
            self._fence.confirm(anew=True)

    def _open(self, write: Open) -> None:
        """Open the run; one whose creation was not acknowledged is found by its tag."""
        write = write.resolved(self._find)
        name = pending_name(write.experiment)
        experiment = write.experiment if name is None else self._tracker.experiment(name)
        target = self._target(write, experiment)
        is_late = self._fence.is_unsure or not self._untried or target != write.run_id
        self._untried = False
        if target is not None and is_late:  # it may have been opened elsewhere since this was written
            self._fence.yield_to(self._tracker.tags(target).get(Tag.ATTEMPT, ""))
            if self._fence.is_taken_over:
                self._journal.note("run_id", target)
                self._run = self._tracker.attach(target)
                return
        self._run = self._tracker.open_run(
            name=write.name,
            experiment=experiment,
            tags=dict(write.tags),
            parent_run_id=write.parent_run_id,
            run_id=target,
            timestamp=write.timestamp,
            hold=self._fence.hold,
        )
        self._journal.note("run_id", self._run.run_id)
        self._fence.opened()

    def _target(self, write: Open, experiment: str) -> str | None:
        """Return the id of the run to re-open, None if it is to be created."""
        pending = None if write.run_id is None else pending_key(write.run_id)
        if write.run_id is not None and pending is None:
            return write.run_id
        if pending is None and self._untried:
            return None
        tags = {Tag.JOURNAL: pending or self._journal.key}
        return next(iter(self._tracker.find_runs(experiment or None, tags)), None)

    def _opened(self) -> Run:
        """Return the run; if another attempt may have taken it over, ask first."""
        if self._run is not None and not self._fence.is_unsure:
            return self._run
        noted = self._journal.fact("run_id") or pending_id(self._journal.key)
        run_id = self._find(noted)
        if run_id is None:
            raise TrackingError(f"There is no run {noted} at {self._tracker.uri}")
        if run_id != noted:
            self._journal.note("run_id", run_id)
        if self._fence.opener is not None:
            self._fence.compare(self._tracker.tags(run_id).get(Tag.ATTEMPT))
        if self._run is None:
            self._run = self._tracker.attach(run_id)
            self._remind(self._run)
        self._fence.trust()
        return self._run

    def _remind(self, run: Run) -> None:
        """Tell a run what a model will be linked to, if another process delivered that."""
        if self._fence.is_taken_over:
            return
        for dataset in self._journal.delivered(Dataset):
            run.write(dataset)
        found = [metric for one in self._journal.delivered(Metrics) for metric in one.metrics]
        run.write(Metrics([metric for metric in found if metric.step == 0], only_missing=True))

    def _put_missing(self, metrics: Sequence[Metric]) -> None:
        """Write the values of a lost attempt to a run that has ended elsewhere and lacks them."""
        run = self._ended_elsewhere()
        if run is not None:
            run.write(Metrics(metrics, only_missing=True))

    def _take_back(self, write: File) -> None:
        """Delete the file of a lost attempt that may have reached its run only after that had ended elsewhere.

        While the run goes on elsewhere, the worker that ends it deletes the file.
        """
        run = self._ended_elsewhere()
        if run is not None:
            with suppress(DeniedError):
                run.delete_file(write.path)

    def _ended_elsewhere(self) -> Run | None:
        """Return the run of a lost attempt, None while it goes on elsewhere, or if there is none."""
        run_id = self._journal.known_id or self._find(pending_id(self._journal.key))
        if run_id is None or self._tracker.status(run_id) is RunStatus.RUNNING:
            return None
        self._journal.note("run_id", run_id)
        return self._tracker.attach(run_id)

    def _find(self, run_id: str) -> str | None:
        return run_in_store(self._tracker, run_id)
