"""How studies stand, read without changing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lab.errors import StudyError
from lab.study.planner import cell_states
from lab.study.queue import TrialQueue, failure, is_dead
from lab.study.record import TrialRecord
from lab.study.storage import PatientStorage, database_exists, display_url, open_storage
from lab.study.studies import StudyNames, broken, names_in, not_labs, reason
from lab.training import Outcome, rank

__all__ = [
    "StudyStatus",
    "best_value",
    "find_queue",
    "known_studies",
    "run_ids",
    "statuses",
    "study_names",
    "study_status",
    "winner",
]


@dataclass(frozen=True)
class StudyStatus:
    """A study's cells by state, the trials that run, were interrupted and failed, and the best value so far.

    A trial is `interrupted` when its worker, on this machine, is no more and nobody has queued it again. `others`
    is how many trials another program has added, which count for nothing. `trouble` says what keeps the study from
    being trained, or from being shown: then the rest is empty.
    """

    name: str
    monitor: str = ""
    states: dict[str, int] = field(default_factory=dict)
    running: list[dict[str, Any]] = field(default_factory=list)
    interrupted: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    best_value: float | None = None
    best_label: str = ""
    cancelled: bool = False
    others: int = 0
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


Missing = Callable[[Collection[str]], Collection[str]]  # see `Tracker.missing_runs`


def known_studies(url: str) -> StudyNames:
    """Return lab's studies in a database and those of other programs, none where there is no database yet."""
    return names_in(open_storage(url).engine) if database_exists(url) else StudyNames({}, [])


def study_names(url: str) -> list[str]:
    """Return the names of lab's studies in a database, none where there is no database yet."""
    return list(known_studies(url).own)


def find_queue(url: str, name: str) -> TrialQueue | None:
    """Return the trials of the study called `name`, None where there is no such study.

    Raises:
        StudyError: another program has made it.
    """
    names = known_studies(url)
    if name in names.others:
        raise StudyError(not_labs(name))
    return TrialQueue(open_storage(url), name) if name in names.own else None


def study_status(url: str, name: str, missing: Missing = lambda run_ids: ()) -> StudyStatus:
    """Return how the study called `name` stands.

    Args:
        url: of the database.
        name: of the study.
        missing: returns those of the ids of runs that are no more.

    Raises:
        StudyError: no such study.
    """
    queue = find_queue(url, name)
    if queue is None:
        raise StudyError(f"No study '{name}' in {display_url(url)}")
    return _status(queue, missing)


def statuses(url: str, missing: Missing = lambda run_ids: ()) -> list[StudyStatus]:
    """Return how each of lab's studies in a database stands; of one that cannot be read, why."""
    if not database_exists(url):
        return []
    storage = open_storage(url)
    return [_status_or_trouble(storage, name, missing) for name in names_in(storage.engine).own]


def _status_or_trouble(storage: PatientStorage, name: str, missing: Missing) -> StudyStatus:
    try:
        return _status(TrialQueue(storage, name), missing)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others are shown
        return StudyStatus(name, trouble=f"cannot be shown: {reason(error)}")


def _status(queue: TrialQueue, missing: Missing) -> StudyStatus:
    gone = missing(run_ids(queue))
    states = cell_states(queue, gone)
    # each cell's last, though one that was tried again since has another state
    failures = {TrialRecord(trial).cell: trial for trial in queue.trials(TrialState.FAIL)}
    held = queue.trials(TrialState.RUNNING)
    best = winner(queue, gone)
    return StudyStatus(
        name=queue.name,
        monitor=queue.attributes().get("monitor", ""),
        states=dict(Counter(states.values())),
        running=[_running(trial) for trial in held if not is_dead(trial)],
        interrupted=[_running(trial) for trial in held if is_dead(trial)],
        failed=[_failed(trial) for cell, trial in failures.items() if states.get(cell) == "failed"],
        best_value=best_value(best) if best else None,
        best_label=TrialRecord(best).label if best else "",
        cancelled=queue.is_cancelled(),
        others=len(queue.others()),
        trouble=broken(queue),
    )


def run_ids(queue: TrialQueue) -> set[str]:
    """Return the runs of each cell's newest trial."""
    records = map(TrialRecord, queue.newest().values())
    return {record.run_id for record in records if record.run_id is not None}


def winner(queue: TrialQueue, missing: Collection[str] = ()) -> FrozenTrial | None:
    """Return the best finished trial of a study, in the order of `lab.training.rank`; None where none is finished.

    It is one of the cells that were planned last, as on a leaderboard, where any of these is finished.

    Args:
        queue: of the study.
        missing: ids of the runs that are no more: a trial without its run wins nothing.
    """
    finished = [
        trial
        for trial in queue.newest().values()
        if trial.state is TrialState.COMPLETE and TrialRecord(trial).run_id not in missing
    ]
    planned = set(map(str, queue.attributes().get("planned", [])))
    finished = [trial for trial in finished if TrialRecord(trial).cell in planned] or finished
    maximize = queue.maximizes()

    def place(trial: FrozenTrial) -> tuple[int, float, float, int]:
        record = TrialRecord(trial)
        outcome = record.outcome or Outcome.COMPLETED
        return rank(outcome, best_value(trial), record.params, trial.number, maximize=maximize)

    return min(finished, key=place, default=None)


def best_value(trial: FrozenTrial) -> float | None:
    """Return a trial's best value of the monitored metric, which need not be the first objective."""
    noted = TrialRecord(trial).best_value
    return noted if noted is not None else trial.values[0] if trial.values else None


def _running(trial: FrozenTrial) -> dict[str, Any]:
    record, epoch = TrialRecord(trial), max(trial.intermediate_values, default=0)
    return {
        "label": record.label,
        "epoch": epoch,
        "epochs": record.epochs,
        "value": trial.intermediate_values.get(epoch),
        "worker": record.worker_name,
    }


def _failed(trial: FrozenTrial) -> dict[str, Any]:
    record = TrialRecord(trial)
    return {"label": record.label, "error": failure(trial), "run_id": record.run_id}
