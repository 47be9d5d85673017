"""All studies of a database at one glance, with a few queries however many there are."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from lab.study.addresses import database_exists
from lab.study.faults import reason, translated
from lab.study.keys import StudyKey, TrialKey, noted
from lab.study.opening import open_storage
from lab.study.record import StudyRecord, TrialRecord
from lab.study.state import State
from lab.study.status import best_of
from lab.study.storage import PatientStorage
from lab.study.studies import StudyNames, study_names_in

__all__ = ["Overview", "StudyState", "StudySummary", "overview"]

_LONG = {
    StudyKey.CODE,
    StudyKey.DATA_DIGESTS,
    StudyKey.ENGINE,
    StudyKey.SEARCHED_IMAGES,
}  # and not needed here
_STUDY_KEYS = [value for name, value in vars(StudyKey).items() if name.isupper() and value not in _LONG]
_STUDIES = sa.text(
    "SELECT study_id, key, value_json FROM study_user_attributes WHERE key IN :keys"
).bindparams(sa.bindparam("keys", [*_STUDY_KEYS, *map(noted, _STUDY_KEYS)], expanding=True))
_TRIALS = sa.text("SELECT study_id, trial_id, number, state FROM trials ORDER BY trial_id")
_TIMES = sa.text(
    "SELECT study_id, MAX(datetime_start) AS began, MAX(datetime_complete) AS ended FROM trials GROUP BY study_id"
).columns(began=sa.DateTime, ended=sa.DateTime)


def _keys(*keys: str) -> str:
    return ", ".join(f"'{noted(key)}', '{key}'" for key in keys)


# what a trial's state and its place among the others depend on, and no more of what may be half a million rows
_ATTRIBUTES = sa.text(
    f"SELECT trial_id, key, value_json FROM trial_user_attributes WHERE key IN ({_keys(TrialKey.CELL, TrialKey.VOID)}) "
    "UNION ALL SELECT a.trial_id, a.key, a.value_json FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    f"WHERE t.state = 'COMPLETE' AND a.key IN ({_keys(TrialKey.OUTCOME, TrialKey.BEST_VALUE, TrialKey.PARAMS)}) "
    "UNION ALL SELECT a.trial_id, a.key, a.value_json FROM trials t "
    "JOIN trial_user_attributes a ON a.trial_id = t.trial_id WHERE t.state IN ('RUNNING', 'FAIL') "
    f"AND a.key IN ({_keys(TrialKey.OUTCOME, TrialKey.RETRIES, TrialKey.GIVEN_UP, TrialKey.WORKER)})"
)
_VALUES = sa.text(  # of trials that do not say their best value
    "SELECT v.trial_id, v.value FROM trial_values v WHERE v.objective = 0 AND v.value IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM trial_user_attributes a WHERE a.trial_id = v.trial_id "
    f"AND a.key IN ({_keys(TrialKey.BEST_VALUE)}))"
)
_LABELS = sa.text(
    f"SELECT trial_id, value_json FROM trial_user_attributes WHERE key IN ({_keys(TrialKey.LABEL)}) "
    "AND trial_id IN :trials ORDER BY key"
).bindparams(sa.bindparam("trials", expanding=True))


class StudyState(StrEnum):
    """What a study is doing, in a word."""

    RUNNING = "running"
    WAITING = "waiting"  # for a worker
    INTERRUPTED = "interrupted"  # its workers died; the next sweep or worker goes on
    STOPPED = "stopped"  # its time is up, or too many cells failed
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"  # it is over, and some cells failed
    EMPTY = "empty"
    BROKEN = "broken"  # it cannot be read or trained


@dataclass(frozen=True)
class StudySummary:
    """A study in one line.

    Attributes:
        name: of the study.
        state: what it is doing.
        done: cells that were trained to their end; of a search, trials.
        total: cells that will be; those of an exhausted search that still wait will not.
        failed: cells that failed.
        states: the number of cells in each state.
        monitor: the metric that compares its trials.
        best_value: its best value so far.
        best_label: of the trial that has it.
        active: when a trial last began or ended, now while one is running; None if none has begun.
        trouble: what keeps the study from being trained or shown; then the rest may be empty.
    """

    name: str
    state: StudyState
    done: int = 0
    total: int = 0
    failed: int = 0
    states: dict[str, int] = field(default_factory=dict)
    monitor: str = ""
    best_value: float | None = None
    best_label: str = ""
    active: datetime | None = None
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values; times as ISO 8601 in UTC."""
        return {**asdict(self), "state": str(self.state), "active": self.active and self.active.isoformat()}


class Overview(NamedTuple):
    """Lab's studies in a database by name, and the names of other programs' studies."""

    studies: list[StudySummary]
    others: list[str]


class _Trial(NamedTuple):
    """A row of the database's table."""

    study_id: int
    trial_id: int
    number: int
    state: str


def overview(url: str) -> Overview:
    """Return all studies in a database, which need not exist yet.

    The tracking store is not asked: cells whose runs were deleted count as trained.

    Raises:
        StudyError: the database cannot be read. A single study that cannot be has the state `broken`.
    """
    if not database_exists(url):
        return Overview([], [])
    storage = open_storage(url)
    names = study_names_in(storage)
    return Overview(_Reading(storage, names).summaries(), names.others)


class _Reading:
    """One look at the studies called `names` in a database."""

    def __init__(self, storage: PatientStorage, names: StudyNames) -> None:
        self._storage = storage
        self._names = names
        self._studies = _by_owner(self._rows(_STUDIES))
        self._attributes = _by_owner(self._rows(_ATTRIBUTES))
        self._values: dict[int, float] = dict(self._rows(_VALUES))
        self._trials: dict[int, list[_Trial]] = defaultdict(list)
        for row in self._rows(_TRIALS):
            self._trials[row[0]].append(_Trial(*row))
        self._times = {row[0]: max(filter(None, row[1:]), default=None) for row in self._rows(_TIMES)}

    def summaries(self) -> list[StudySummary]:
        """Return a summary of each."""
        found = [self._summary(name, identity) for name, identity in self._names.own.items()]
        best = [record.trial_id for _, record in found if record is not None]
        labels = (
            {trial: json.loads(label) for trial, label in self._rows(_LABELS, trials=best)} if best else {}
        )
        return [
            summary if record is None else replace(summary, best_label=labels.get(record.trial_id, ""))
            for summary, record in found
        ]

    def _summary(self, name: str, identity: int) -> tuple[StudySummary, TrialRecord | None]:
        """Return a study's summary, still without the label of its best trial, and the record of that."""
        try:
            with translated(self._storage.database):
                study = replace(
                    StudyRecord.read(name, _read(self._studies[identity])), asked=self._storage.now()
                )
                records = [
                    record
                    for trial in self._trials[identity]
                    if (record := self._record(trial, study)).is_own
                ]
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others are shown
            trouble = f"cannot be shown: {reason(error)}"
            return StudySummary(name, StudyState.BROKEN, trouble=trouble), None
        study = replace(study, failed=sum(record.has_failed for record in records))
        newest = {record.cell: record for record in records if not record.is_void}.values()
        states, best = Counter(record.state for record in newest), best_of(newest, study)
        waiting = states[State.WAITING] if study.exhausted else 0
        return StudySummary(
            name,
            _word(study, states),
            done=states[State.COMPLETE] + states[State.PRUNED],
            total=states.total() - waiting,
            failed=states[State.FAILED],
            states={str(state): number for state, number in states.items()},
            monitor=study.monitor,
            best_value=best.best_value if best else None,
            active=_active(self._times.get(identity), running=states[State.RUNNING] > 0),
            trouble=study.fault,
        ), best

    def _record(self, trial: _Trial, study: StudyRecord) -> TrialRecord:
        frozen = FrozenTrial(
            number=trial.number,
            state=TrialState[trial.state],
            value=self._values.get(trial.trial_id),
            datetime_start=None,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs=_read(self._attributes[trial.trial_id]),
            system_attrs={},
            intermediate_values={},
            trial_id=trial.trial_id,
        )
        return TrialRecord(frozen, study)

    def _rows(self, query: sa.Executable, **values: Any) -> list[Any]:
        def read() -> list[Any]:
            with self._storage.engine.connect() as connection:
                return list(connection.execute(query, values).all())

        return self._storage.patiently(read)


def _by_owner(rows: Iterable[tuple[int, str, str]]) -> dict[int, dict[str, str]]:
    """Return the attributes of each study or trial by its id, still as JSON."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for owner, key, value in rows:
        found[owner][key] = value
    return found


def _read(attributes: Mapping[str, str]) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in attributes.items()}


def _word(study: StudyRecord, states: Counter[State]) -> StudyState:
    over = (
        StudyState.FAILED if states[State.FAILED] else StudyState.DONE if states.total() else StudyState.EMPTY
    )
    waits = states[State.WAITING] and not study.exhausted
    words = {
        StudyState.BROKEN: study.fault,
        StudyState.RUNNING: states[State.RUNNING],
        StudyState.CANCELLED: states[State.CANCELLED],
        StudyState.WAITING: waits and not study.starts_none,
        StudyState.STOPPED: waits,
        StudyState.INTERRUPTED: states[State.INTERRUPTED],
    }
    return next((word for word, is_so in words.items() if is_so), over)


def _active(last: datetime | None, *, running: bool) -> datetime | None:
    """Return when a trial last began or ended; Optuna's tables have UTC, without naming it."""
    if running:
        return datetime.now(UTC)
    return last and last.replace(tzinfo=UTC)
