"""The end of trials whose worker died, and of studies that are over."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import pandas as pd

from lab import page, report, study
from lab.errors import TrackingError
from lab.hold import Hold, Lost
from lab.study import DeletedError, State, StudyKey, TrialEnded, TrialQueue, TrialRecord, is_left
from lab.tracking import Left, Run, RunStatus, Tracker, UnavailableError
from lab.tracking.tags import Tag
from lab.training import Outcome
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines.launcher import Exited

__all__ = [
    "Ending",
    "Gone",
    "SweepResult",
    "conclude",
    "conclude_if_over",
    "end_deleted",
    "end_left",
    "end_run",
    "get_ready",
    "requeue_dead",
    "study_run",
]

_STATUS = {
    State.COMPLETE: RunStatus.FINISHED,
    State.PRUNED: RunStatus.KILLED,
    State.FAILED: RunStatus.FAILED,
}  # of the run of a trial that has ended
_DELIVERY_SECONDS = 10.0  # for workers of other processes to deliver the ends of their runs
_LOOK_SECONDS = 0.2  # between looks whether they have

Ending = Literal["done", "stopped", "cancelled", "out_of_time", "too_many_failures"]


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        study: its name.
        experiment: id of its experiment.
        leaderboard: one row for each of its trials, the best first.
        states: the number of its cells in each state.
        ending: `done` if nothing is left to train, otherwise why the rest was not trained.
        left: writes that the tracking store has not acknowledged.
        trouble: why there is no leaderboard.
        waits: whether it can be made once the tracking store answers.
    """

    study: str
    experiment: str
    leaderboard: pd.DataFrame
    states: dict[str, int]
    ending: Ending
    left: Left = field(default_factory=Left)
    trouble: str = ""
    waits: bool = False

    @property
    def failed(self) -> int:
        """The number of cells that failed."""
        return self.states.get(State.FAILED, 0)

    @property
    def status(self) -> RunStatus:
        """The status of the study's run."""
        if self.ending not in ("done", "too_many_failures"):
            return RunStatus.KILLED
        return RunStatus.FAILED if self.failed else RunStatus.FINISHED


@dataclass
class Gone:
    """The workers of a study that have exited, as their launcher says: by the names of their processes.

    Attributes:
        blamed: those whose trial may have killed them.
        blameless: those whose place was taken away.
        last: how the last one of the former ended.
    """

    blamed: set[str] = field(default_factory=set)
    blameless: set[str] = field(default_factory=set)
    last: Exited | None = None

    def add(self, worker: str, exited: Exited) -> None:
        """Note how a worker has exited; its name is empty if it is not known."""
        if exited.code and not exited.blameless:
            self.last = exited
        if worker:
            (self.blameless if exited.blameless else self.blamed).add(worker)


def requeue_dead(
    queue: TrialQueue, tracker: Tracker, gone: Gone | None = None, spared: Collection[str] = ()
) -> list[TrialEnded]:
    """Requeue the trials of dead workers; fail those that died too often, and return how these ended.

    The trials of workers whose place was taken away are put back, which counts as no try.

    Args:
        queue: of the study.
        tracker: where its runs are.
        gone: what is known of workers that have exited.
        spared: names of workers of which that will be known soon.
    """
    gone, ended = gone or Gone(), []
    for record in study.put_back_gone(queue, gone.blameless) if gone.blameless else []:
        end_run(record, queue, tracker, RunStatus.KILLED, {Tag.OUTCOME: Outcome.KILLED})
    for record in study.requeue_dead(queue, gone.blamed, spared):
        tries = counted(queue.record().max_retries + 1, "time")
        why = f"its process died every time it was tried ({tries}){_in_words(gone.last)}"
        tags = {Tag.OUTCOME: Outcome.FAILED, Tag.ERROR: why}
        end_run(record, queue, tracker, RunStatus.FAILED, tags)
        ended.append(TrialEnded(record.number, record.label, Outcome.FAILED, error=why))
    return ended


def _in_words(last: Exited | None) -> str:
    if last is None:
        return ""
    if last.error:
        return f", the last time: {last.error}"
    code = last.code
    if code >= 0:
        return f", the last time with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    often = ", which the kernel sends when memory runs out" if name == "SIGKILL" else ""
    return f", the last time by {name}{often}"


def end_run(
    record: TrialRecord, queue: TrialQueue, tracker: Tracker, status: RunStatus, tags: dict[str, str]
) -> None:
    """End the run that a dead worker left open, unless the trial has a worker again or the run was deleted.

    Args:
        record: of its trial.
        queue: of the study.
        tracker: where the run is.
        status: to end it with.
        tags: to set on it.
    """
    if record.run_id is None or _is_missing(record.run_id, tracker):
        return
    experiment = tracker.experiment(queue.record().experiment)
    # always asks anew: this process may have slept since it looked
    hold = Hold(lambda: is_left(queue, record), fresh=0.0)
    with suppress(Lost):
        run = tracker.open_run(
            name=record.label, experiment=experiment, tags=tags, run_id=record.run_id, hold=hold
        )
        run.end(status)


def end_left(queue: TrialQueue, tracker: Tracker, runs: pd.DataFrame) -> None:
    """End the runs that dead workers have left open: whoever requeued or ended their trials did not.

    They are not opened anew: what their workers have logged last may still be delivered.

    Args:
        queue: of the study.
        tracker: where its runs are.
        runs: its runs, from `Tracker.runs`.
    """
    left = set(runs.loc[runs["status"] == RunStatus.RUNNING, "run_id"])
    for record in queue.newest().values() if left else ():
        if record.run_id is None or record.run_id not in left or record.state is State.RUNNING:
            continue
        run = tracker.attach(record.run_id)
        if record.state in _STATUS:
            run.end(_STATUS[record.state])
        elif is_left(queue, record):
            run.set_tags({Tag.OUTCOME: Outcome.KILLED})
            run.end(RunStatus.KILLED)


def end_deleted(run_id: str, tracker: Tracker) -> None:
    """End the run of a study that another program has deleted, unless it has ended: nobody else knows of it."""
    if _is_missing(run_id, tracker):
        return
    with suppress(TrackingError):  # the store does not answer, or does not have the run yet
        if tracker.status(run_id) is not RunStatus.RUNNING:
            return
    tracker.attach(run_id).end(RunStatus.KILLED)


def study_run(queue: TrialQueue, tracker: Tracker) -> Run:
    """Return the study's own run, or a new one with the same tags if that was deleted.

    Raises:
        TrackingError: the study's experiment was deleted.
    """
    record = queue.record()
    run_id = record.run_id
    if not _is_missing(run_id, tracker):
        return tracker.attach(run_id)
    try:
        tags = {name: tag for name, tag in tracker.tags(run_id).items() if name.startswith("lab.")}
    except TrackingError:  # purged
        direction = "maximize" if record.maximize else "minimize"
        tags = {Tag.MONITOR: record.monitor, Tag.DIRECTION: direction}
    tags |= {Tag.STUDY: queue.name, Tag.KIND: "study"}
    experiment = tracker.experiment(record.experiment)
    run = tracker.open_run(name=queue.name, experiment=experiment, tags=tags)
    queue.note(StudyKey.RUN_ID, run.run_id)
    return run


def _is_missing(run_id: str, tracker: Tracker) -> bool:
    try:
        return run_id in tracker.missing_runs([run_id])
    except UnavailableError:  # the journal keeps what is written to it
        return False


def get_ready() -> None:
    """Import what `conclude` needs, in a thread: it takes a second, for which nobody should wait at the end."""
    threading.Thread(target=lambda: page.log_report_if_quick, name="lab-get-ready", daemon=True).start()


def conclude(queue: TrialQueue, run: Run, tracker: Tracker, ending: Ending) -> SweepResult:
    """Publish the leaderboard of a study to its run, and end the run unless another process still trains the study.

    If the tracking store does not answer, the leaderboard is made when the study is concluded again. Any other error
    would recur: the result tells it, and the study is concluded without a leaderboard.

    Raises:
        DeletedError: another program has deleted the study; its run has ended, too.
    """
    try:
        return _conclude(queue, run, tracker, ending)
    except DeletedError:  # nobody else knows of the run now
        run.end(RunStatus.KILLED)
        tracker.flush()
        raise


def _conclude(queue: TrialQueue, run: Run, tracker: Tracker, ending: Ending) -> SweepResult:
    tracker.flush()  # writes that workers have left belong on the leaderboard
    states = dict(Counter(str(state) for state in queue.states().values()))
    experiment = tracker.experiment(queue.record().experiment)
    board, trouble, waits = pd.DataFrame(), "", False
    try:
        source = _read_source(queue, tracker, experiment)
        end_left(queue, tracker, source.found.runs)
        board = report.publish_leaderboard(run, source.trials)
        page.log_report_if_quick(run, source, tracker)
    except UnavailableError as error:
        trouble, waits = str(error), True
    except Exception as error:  # noqa: BLE001  # the trials are done, even if a table or a figure cannot be made
        trouble = f"{type(error).__name__}: {error}"
    result = SweepResult(queue.name, experiment, board, states, ending, trouble=trouble, waits=waits)
    if not states.get(State.RUNNING):  # otherwise another process trains it, and ends the run
        run.end(result.status)
        if not waits:
            _note_concluded(queue)
    return replace(result, left=tracker.flush())


def _read_source(queue: TrialQueue, tracker: Tracker, experiment: str) -> report.Source:
    """Return what the leaderboard is made from, with the ends of the runs of all trials that have ended.

    A worker tells the study first: one of another process may be delivering to the store what it has logged last.
    """
    newest = queue.newest().values()
    named = {record.run_id for record in newest if record.run_id is not None}
    ended = {record.run_id for record in newest if record.state in _STATUS}
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while True:
        source = report.read_source(tracker, experiment, queue.name, named)
        runs = source.found.runs
        if not (runs["run_id"].isin(ended) & (runs["status"] == RunStatus.RUNNING)).any():
            return source
        if time.monotonic() >= deadline:  # its process may have died on another machine
            return source
        time.sleep(_LOOK_SECONDS)
        tracker.flush()  # its process may have died here


def conclude_if_over(queue: TrialQueue, tracker: Tracker) -> SweepResult | None:
    """Conclude a study that is over, unless it was concluded; return how it ended."""
    record = queue.record()
    if record.concluded or not queue.is_over():
        return None
    tracker.find_experiment(record.experiment)  # raises if the store is unreachable, before all the work
    return conclude(queue, study_run(queue, tracker), tracker, queue.held_back() or "done")


def _note_concluded(queue: TrialQueue) -> None:
    def note() -> None:
        with queue.locked():  # a planner that is adding cells notes that it is not, afterwards
            if queue.is_over():
                queue.note(StudyKey.CONCLUDED, True)

    queue.storage.patiently(note)
