"""Runs that a user deletes: found and checked first, deleted once the user has agreed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lab.engines.single import find_stored
from lab.engines.stores import Stores
from lab.errors import StudyError, TrackingError
from lab.study import State, TrialQueue, existing_study, find_cells, find_queue
from lab.tracking import RunStatus, Tracker, connect, pending_id, run_in_store
from lab.tracking.tags import Tag

__all__ = ["Deletion", "find_runs_to_delete"]


@dataclass(frozen=True)
class Deletion:
    """Runs that may be deleted.

    Attributes:
        tracker: where they are.
        runs: their names by id.
        queue: of the study that they belong to, if any.
        noted: the ids by which its trials know them, which may be pending ones.
    """

    tracker: Tracker
    runs: Mapping[str, str]
    queue: TrialQueue | None = None
    noted: Collection[str] = ()

    @property
    def study(self) -> str:
        """The name of their study; empty if they belong to none."""
        return "" if self.queue is None else self.queue.name

    def carry_out(self) -> None:
        """Delete them: the store hides them, and keeps everything until its rubbish is collected.

        Raises:
            StudyError: a trial has been queued again since, by somebody else.
            TrackingError: the store failed, or denies it to this account.
        """
        if self.queue is not None:
            _refuse_unended(self.noted, self.queue)  # again: a user may have taken an hour to agree
        for run_id in self.runs:
            self.tracker.delete_run(run_id)


def find_runs_to_delete(name: str, stores: Stores, cells: Sequence[str] = ()) -> Deletion:
    """Find the run called `name`, or with `cells` the runs of these cells of the study called so.

    Args:
        name: of a study; or a run, as `lab.restore.find_run` takes it.
        stores: where they are.
        cells: as `lab.study.find_cells` takes them.

    Raises:
        StudyError: one is being trained, or waits to be continued; it is a study's own run; or there is no such study
            or cell.
        TrackingError: there is no such run, or the store failed.
    """
    if cells:
        return _of_cells(existing_study(stores.storage, name), stores, cells)
    if find_queue(stores.storage, name) is not None:
        raise StudyError(
            f"'{name}' is a study: say which of its cells with --cell SETTING=VALUE, or give the id of a run"
        )
    tracker, run_id = find_stored(name, stores)
    record = tracker.record(run_id)
    study = record.tags.get(Tag.STUDY, "")
    if record.tags.get(Tag.KIND) == "study":
        raise StudyError(
            f"Run {run_id} is that of the whole study '{study}', which its trials need; delete the runs of its cells "
            f"instead: lab delete {study} --cell SETTING=VALUE"
        )
    queue = find_queue(stores.storage, study) if study else None
    noted = [run_id, pending_id(record.tags.get(Tag.JOURNAL, ""))]
    if queue is not None:
        _refuse_unended(noted, queue)
    elif record.status is RunStatus.RUNNING:
        raise TrackingError(
            f"Run {run_id} is running: stop it first (Ctrl-C where it runs). If its process is gone, delete it in the "
            "MLflow UI"
        )
    return Deletion(tracker, {run_id: record.name}, queue, noted)


def _of_cells(queue: TrialQueue, stores: Stores, cells: Sequence[str]) -> Deletion:
    chosen = find_cells(queue.newest(), cells, queue.name)
    noted = {record.run_id: record.label for record in chosen if record.run_id is not None}
    _refuse_unended(noted, queue)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    for missing in tracker.missing_runs(noted):
        del noted[missing]
    found = {run_in_store(tracker, run_id): label for run_id, label in noted.items()}
    runs = {run_id: label for run_id, label in found.items() if run_id is not None}
    if not runs:
        raise StudyError(f"No cell of study '{queue.name}' with {', '.join(cells)} has a run to delete")
    return Deletion(tracker, runs, queue, noted)


def _refuse_unended(runs: Collection[str], queue: TrialQueue) -> None:
    """Refuse runs that a worker writes to, or may at any moment: it would fail, and its sweep with it."""
    theirs = (record for record in queue.newest().values() if record.run_id in runs)
    unended = [one for one in theirs if one.state is State.INTERRUPTED or not one.trial.state.is_finished()]
    if unended:
        does = {State.WAITING: "waiting to be continued", State.CANCELLED: "cancelled and may be continued"}
        raise StudyError(
            f"'{unended[0].label}' is {does.get(unended[0].state, unended[0].state)}; end it for good with "
            f"`lab stop {queue.name} --cell {unended[0].cell}`, and delete it then"
        )
