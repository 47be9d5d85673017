"""Cancelling, resuming and retrying studies, whoever trains them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.engines.ending import end_left, requeue_dead, study_run
from lab.engines.stores import Stores, tracking
from lab.errors import StudyError, TrackingError
from lab.study import (
    State,
    TrialQueue,
    find_cells,
    requeue_deleted,
    requeue_failed,
    requeue_interrupted,
    run_ids,
)
from lab.tracking import RunStatus, Tracker
from lab.tracking.tags import Tag
from lab.training import Outcome

__all__ = ["Counts", "Stopped", "cancel", "resume", "retry", "stop"]


@dataclass(frozen=True)
class Counts:
    """Numbers of cells after a change to their study: `changed` by it, and now `waiting` and `running`."""

    changed: int
    waiting: int
    running: int


@dataclass(frozen=True)
class Stopped:
    """Numbers of trials that were stopped: `ended` at once, `ending` after their current epoch, and `over` before."""

    ended: int
    ending: int
    over: int


def cancel(queue: TrialQueue, stores: Stores) -> Counts:
    """Start no more trials of a study; workers stop those that are running at their next step, and put them back.

    Nothing is lost: after `resume` they continue where they stopped.
    """
    with tracking(stores) as tracker:
        queue.cancel()
        requeue_dead(queue, tracker)
        with suppress(TrackingError):  # the store is away: whoever concludes the study ends them
            experiment = tracker.experiment(queue.record().experiment)
            tags = {Tag.STUDY: queue.name, Tag.KIND: "trial"}
            end_left(queue, tracker, tracker.runs(experiment, tags=tags, metrics=()))
        states = list(queue.states().values())
        if states.count(State.CANCELLED) or states.count(State.RUNNING):
            study_run(queue, tracker).end(RunStatus.KILLED)
        return Counts(states.count(State.CANCELLED), 0, states.count(State.RUNNING))


def resume(queue: TrialQueue, stores: Stores) -> Counts:
    """Undo `cancel`, and requeue the trials whose worker died; the study still needs a worker."""
    with tracking(stores) as tracker:
        queue.resume()
        before = list(queue.states().values())
        requeue_dead(queue, tracker)
        requeue_interrupted(queue)
        states = list(queue.states().values())
        if not queue.is_over():
            _reopen(queue, tracker)
        return Counts(
            before.count(State.INTERRUPTED), states.count(State.WAITING), states.count(State.RUNNING)
        )


def retry(queue: TrialQueue, stores: Stores, cells: Sequence[str] = (), *, deleted: bool = False) -> Counts:
    """Requeue failed cells of a study with their retry count reset; they continue their runs.

    Args:
        queue: of the study.
        stores: where its runs are.
        cells: the only cells to requeue, as `lab.study.find_cells` takes them; all if empty.
        deleted: requeue the cells whose runs were deleted instead; they get new runs.

    Raises:
        StudyError: there is no such cell, or it has not failed (its run was not deleted).
        TrackingError: the tracking store cannot tell which runs were deleted, or the study's experiment was.
    """
    with tracking(stores) as tracker:
        requeue_dead(queue, tracker)
        missing = tracker.missing_runs(run_ids(queue)) if deleted else set()
        wanted = (State.DELETED,) if deleted else (State.FAILED, State.INTERRUPTED)
        chosen = _chosen(queue, cells, missing, wanted) if cells else None
        if missing:
            tracker.experiment(queue.record().experiment)  # raises if that was deleted with them
        changed = requeue_deleted(queue, missing, chosen) if deleted else requeue_failed(queue, chosen)
        if changed and queue.waits() and not queue.is_cancelled():
            _reopen(queue, tracker)
        found = list(queue.states().values())
        return Counts(
            changed, found.count(State.WAITING) + found.count(State.CANCELLED), found.count(State.RUNNING)
        )


def stop(queue: TrialQueue, stores: Stores, cells: Sequence[str]) -> Stopped:
    """End the trials of some cells for good, wherever they run; workers go on with the others.

    A waiting trial ends at once; a running one after its current epoch, and its best weights are tested and kept. The
    outcome is `pruned`: they are neither failures, nor are they tried again by the next sweep.

    Args:
        queue: of the study.
        stores: where its runs are.
        cells: as `lab.study.find_cells` takes them.

    Raises:
        ConfigError: there is no such setting.
        StudyError: there is no such cell, or all of them have ended.
    """
    with tracking(stores) as tracker:
        requeue_dead(queue, tracker)
        chosen = find_cells(queue.newest(), cells, queue.name)
        unended = [record for record in chosen if not record.trial.state.is_finished()]
        if not unended:
            raise StudyError(
                f"Cell {chosen[0].cell} of study '{queue.name}' is {chosen[0].state}: it has ended already"
            )
        ended = [record for record in unended if queue.stop(record.trial_id)]
        for record in ended:
            if record.run_id is not None:
                run = tracker.attach(record.run_id)
                run.set_tags({Tag.OUTCOME: Outcome.PRUNED})
                run.end(RunStatus.KILLED)  # a worker that died has left it open
        return Stopped(len(ended), len(unended) - len(ended), len(chosen) - len(unended))


def _chosen(
    queue: TrialQueue, cells: Sequence[str], missing: Collection[str], wanted: Sequence[State]
) -> set[str]:
    """Return the hashes of the cells that `cells` name and that may be requeued; raise if none of them may."""
    found = find_cells(queue.newest(missing), cells, queue.name)
    chosen = {record.cell for record in found if record.state in wanted}
    if not chosen:
        raise StudyError(
            f"Cell {found[0].cell} of study '{queue.name}' is {found[0].state}; only {wanted[0]} cells can be retried"
        )
    return chosen


def _reopen(queue: TrialQueue, tracker: Tracker) -> None:
    experiment = tracker.experiment(queue.record().experiment)
    run_id = study_run(queue, tracker).run_id
    tracker.open_run(name=queue.name, experiment=experiment, tags={}, run_id=run_id)
