"""The progress of studies, read without changing anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.errors import StudyError
from lab.study.addresses import database_exists, display_url
from lab.study.opening import open_storage
from lab.study.queue import TrialQueue
from lab.study.record import StudyRecord, TrialRecord
from lab.study.state import State
from lab.study.studies import StudyNames, not_labs, study_names_in
from lab.training import Outcome, rank

__all__ = [
    "StudyStatus",
    "best_of",
    "find_queue",
    "known_studies",
    "run_ids",
    "study_names",
    "study_status",
    "winner",
]


@dataclass(frozen=True)
class StudyStatus:
    """A study's cells by state, its running, interrupted and failed trials, and its best value so far.

    A trial is `interrupted` when its worker has died and the trial has not been requeued yet. `others` is how many
    trials another program has added, which count for nothing. A study is `out_of_time` while trials wait that do not
    start because its budget's seconds have passed, and has `too_many_failures` while that is because `max_failures`
    of them have failed. `engine` is what the engine that runs its workers says about them
    now, and on which machine, a line each. `trouble` says what keeps the study from being trained.
    """

    name: str
    monitor: str = ""
    states: dict[str, int] = field(default_factory=dict)
    running: list[dict[str, Any]] = field(default_factory=list)
    interrupted: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    best_value: float | None = None
    best_label: str = ""
    priority: int = 0
    cancelled: bool = False
    out_of_time: bool = False
    too_many_failures: bool = False
    others: int = 0
    engine: list[str] = field(default_factory=list)
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


Missing = Callable[[Collection[str]], Collection[str]]  # see `Tracker.missing_runs`


def known_studies(url: str) -> StudyNames:
    """Return lab's studies in a database and those of other programs; none if there is no database yet."""
    return study_names_in(open_storage(url)) if database_exists(url) else StudyNames({}, [])


def study_names(url: str) -> list[str]:
    """Return the names of lab's studies in a database; none if there is no database yet."""
    return list(known_studies(url).own)


def find_queue(url: str, name: str) -> TrialQueue | None:
    """Return the queue of the study called `name`, None if there is no such study.

    Raises:
        StudyError: another program created it.
    """
    if not database_exists(url):
        return None
    storage = open_storage(url)
    names = study_names_in(storage)
    if name in names.others:
        raise StudyError(not_labs(name))
    return TrialQueue(storage, name) if name in names.own else None


def study_status(url: str, name: str, missing: Missing = lambda run_ids: ()) -> StudyStatus:
    """Return the progress of the study called `name`.

    Args:
        url: of the database.
        name: of the study.
        missing: returns which of some runs, given by their ids, no longer exist.

    Raises:
        StudyError: there is no such study.
    """
    queue = find_queue(url, name)
    if queue is None:
        raise StudyError(f"No study '{name}' in {display_url(url)}")
    return _status(queue, missing)


def _status(queue: TrialQueue, missing: Missing) -> StudyStatus:
    gone = missing(run_ids(queue))
    newest = queue.newest(gone).values()
    by_state: dict[State, list[TrialRecord]] = defaultdict(list)
    for record in newest:
        by_state[record.state].append(record)
    study, best, held_back = queue.record(), winner(queue, gone), queue.held_back()
    return StudyStatus(
        name=queue.name,
        monitor=study.monitor,
        states={str(state): len(records) for state, records in by_state.items()},
        running=[_running(record) for record in by_state[State.RUNNING]],
        interrupted=[_running(record) for record in by_state[State.INTERRUPTED]],
        failed=[_failed(record) for record in by_state[State.FAILED]],
        best_value=best.best_value if best else None,
        best_label=best.label if best else "",
        priority=study.priority,
        cancelled=study.cancelled,
        out_of_time=held_back == "out_of_time",
        too_many_failures=held_back == "too_many_failures",
        others=len(queue.others()),
        engine=study.engine_says,
        trouble=study.fault,
    )


def run_ids(queue: TrialQueue) -> set[str]:
    """Return the runs of each cell's newest trial."""
    return {record.run_id for record in queue.newest().values() if record.run_id is not None}


def winner(queue: TrialQueue, missing: Collection[str] = ()) -> TrialRecord | None:
    """Return the best finished trial of a study, in the order of `lab.training.rank`; None if none is finished.

    It is one of the cells that were planned last, as on a leaderboard, if any of these is finished.

    Args:
        queue: of the study.
        missing: ids of the runs that no longer exist: a trial without its run does not win.
    """
    return best_of(queue.newest(missing).values(), queue.record())


def best_of(newest: Iterable[TrialRecord], study: StudyRecord) -> TrialRecord | None:
    """Return the best of the newest trials of a study's cells, as `winner` does."""
    finished, planned = [record for record in newest if record.state is State.COMPLETE], set(study.planned)
    finished = [record for record in finished if record.cell in planned] or finished

    def place(record: TrialRecord) -> tuple[int, float, float, int]:
        outcome = record.outcome or Outcome.COMPLETED
        return rank(outcome, record.best_value, record.params, record.number, maximize=study.maximize)

    return min(finished, key=place, default=None)


def _running(record: TrialRecord) -> dict[str, Any]:
    return {
        "label": record.label,
        "epoch": record.epoch,
        "epochs": record.epochs,
        "value": record.last_value,
        "worker": record.worker_name,
    }


def _failed(record: TrialRecord) -> dict[str, Any]:
    return {"label": record.label, "error": record.failure, "run_id": record.run_id}
