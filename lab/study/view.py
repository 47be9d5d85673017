"""What the database has of one study: its record, its trials, and whether any of them may still start."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from lab.identity import process_name
from lab.study.faults import DeletedError, translated
from lab.study.keys import OWN_TRIAL, StudyKey, TrialKey, noted
from lab.study.record import StudyRecord, TrialRecord, newest_of
from lab.study.state import State
from lab.study.storage import READING, PatientStorage
from lab.study.tables import TRIALS, trials_of
from lab.training import Outcome

__all__ = ["HeldBack", "StudyView"]

HeldBack = Literal["out_of_time", "too_many_failures"]  # why trials wait that do not start

_NEXT_WAITING = sa.text(
    "SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND t.trial_id > :after AND t.state = 'WAITING' "
    f"AND {OWN_TRIAL} ORDER BY t.trial_id LIMIT :most"
)
_WAITING = sa.text(
    f"SELECT COUNT(*) FROM trials t WHERE t.study_id = :study AND t.state = 'WAITING' AND {OWN_TRIAL}"
)
_WAITING_ALONE = sa.text(
    "SELECT COUNT(*) FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    f"WHERE t.study_id = :study AND t.state = 'WAITING' AND a.key = '{noted(TrialKey.ALONE)}' "
    f"AND a.value_json = 'true' AND {OWN_TRIAL}"
)
_UNFINISHED = sa.text(
    "SELECT DISTINCT t.state FROM trials t WHERE t.study_id = :study AND t.state IN ('WAITING', 'RUNNING') "
    f"AND {OWN_TRIAL}"
)
_HOLDER = sa.text(
    "SELECT t.state, a.value_json FROM trials t LEFT JOIN trial_user_attributes a "
    f"ON a.trial_id = t.trial_id AND a.key = '{noted(TrialKey.WORKER)}' WHERE t.trial_id = :trial"
)
_STOPPED = sa.text(
    f"SELECT COUNT(*) FROM trial_user_attributes WHERE trial_id = :trial AND key = '{noted(TrialKey.STOPPED)}' "
    "AND value_json = 'true'"
)
_CELLS_SINCE = sa.text(
    "SELECT t.trial_id, a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study AND t.trial_id > :after "
    f"AND a.key IN ('{noted(TrialKey.CELL)}', '{TrialKey.CELL}') "
    f"AND {OWN_TRIAL} ORDER BY t.trial_id"
)
_FIRST_UNFINISHED = sa.text(
    "SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND t.trial_id > :after "
    "AND t.state IN ('WAITING', 'RUNNING') ORDER BY t.trial_id LIMIT 1"
)
_BEGUN = sa.text(
    "SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND t.trial_id > :after AND (t.state <> 'WAITING' "
    "OR EXISTS (SELECT 1 FROM trial_intermediate_values v WHERE v.trial_id = t.trial_id))"
)
_FAILED = sa.text(
    "SELECT COUNT(DISTINCT t.trial_id) FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study AND t.state = 'FAIL' "
    f"AND (a.key IN ('{noted(TrialKey.OUTCOME)}', '{TrialKey.OUTCOME}') AND a.value_json = '\"{Outcome.FAILED}\"' "
    f"OR a.key = '{noted(TrialKey.GIVEN_UP)}') AND {OWN_TRIAL}"
)
_ATTRIBUTES = sa.text(
    "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key IN :keys"
).bindparams(sa.bindparam("keys", expanding=True))
_FLAGS = (
    StudyKey.CANCELLED,
    StudyKey.EXHAUSTED,
    StudyKey.SEARCH,
    StudyKey.SECONDS,
    StudyKey.BEGAN,
    StudyKey.MAX_FAILURES,
    StudyKey.FORGIVEN,
)

_AT_ONCE = 500  # trials that are read by their ids in one statement


class StudyView:
    """The study called `name` in `storage`, which must exist, read without changing anything.

    What is asked often, or of thousands of trials, is read from the database's tables. Trials that another program has
    added to the study are left out.
    """

    def __init__(self, storage: PatientStorage, name: str) -> None:
        self.storage = storage
        self.name = name
        self.study_id = storage.get_study_id_from_name(name)
        self._study = optuna.load_study(study_name=name, storage=storage)

    def record(self) -> StudyRecord:
        """Return what is noted of the study now."""
        attributes = self.storage.get_study_user_attrs(self.study_id)
        return self._completed(StudyRecord.read(self.name, attributes, maximize=self._maximizes_first))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's own trials in any of `states` (all if none is given) as Optuna has them, by number."""
        return [trial for trial in self._all_trials(*states) if TrialRecord(trial).is_own]

    def records(self, *states: TrialState, missing: Collection[str] = ()) -> list[TrialRecord]:
        """Return the records of the study's own trials, by number.

        Args:
            states: Optuna's, of the only trials to return; all if none is given.
            missing: ids of the runs that no longer exist, from `Tracker.missing_runs`.
        """
        study = self.record()
        records = (TrialRecord(trial, study, missing) for trial in self._all_trials(*states))
        return [record for record in records if record.is_own]

    def newest(self, missing: Collection[str] = ()) -> dict[str, TrialRecord]:
        """Return each cell's newest trial by cell hash; of a search each draft's, without those that are void."""
        return newest_of(self.records(missing=missing))

    def states(self, missing: Collection[str] = ()) -> dict[str, State]:
        """Return the state of each cell by cell hash.

        Args:
            missing: ids of the runs that no longer exist, from `Tracker.missing_runs`.
        """
        return {cell: record.state for cell, record in self.newest(missing).items()}

    def others(self) -> list[FrozenTrial]:
        """Return the trials that another program has added to the study, which lab leaves alone."""
        return [trial for trial in self._all_trials() if not TrialRecord(trial).is_own]

    def completed(self) -> list[FrozenTrial]:
        """Return the trials that have a value, by number."""
        return self.trials(TrialState.COMPLETE)

    def waits(self) -> bool:
        """Whether any trial waits that a worker may start."""
        return self._waits() and not self._starts_none()

    def waiting(self) -> int:
        """Return how many trials wait that a worker may start."""
        return 0 if self._starts_none() else int(self.rows(_WAITING)[0][0])

    def waiting_alone(self) -> int:
        """Return how many of them need a GPU to themselves, having run out of memory on a shared one."""
        count = int(self.rows(_WAITING_ALONE)[0][0])
        return count if count and not self._starts_none() else 0

    def is_over(self) -> bool:
        """Whether no trial is running, and none is waiting that may still start."""
        states = {state for (state,) in self.rows(_UNFINISHED)}
        return not states or (states == {"WAITING"} and self._starts_none())

    def is_exhausted(self) -> bool:
        """Whether the study is a search that has reached its budget or target: its waiting trials never start."""
        return self._flags().exhausted

    def held_back(self) -> HeldBack | None:
        """Return why trials wait that do not start: the study's time is up, or too many have failed; None otherwise."""
        study = self._flags()
        if not (study.is_late or study.fails_too_often) or study.exhausted or not self._waits():
            return None
        return "too_many_failures" if study.fails_too_often else "out_of_time"

    def failed(self) -> int:
        """Return how many trials have failed so far; one that was retried still counts. The number never falls."""
        return int(self.rows(_FAILED)[0][0])

    def is_mine(self, trial_id: int) -> bool:
        """Whether a claimed trial still belongs to this process: it has not ended and no other worker has it.

        Raises:
            DeletedError: there is no such trial. No other worker has it either.
            StudyError: the database cannot be read now; this does not wait for it.
        """
        with translated(self.storage.database):
            with self.storage.engine.connect().execution_options(**READING) as connection:
                row = connection.execute(_HOLDER, {"trial": trial_id}).one_or_none()
            if row is None:
                raise DeletedError(self.storage.database)
            return bool(row[0] == "RUNNING" and json.loads(row[1] or "null") == process_name())

    def is_disowned(self) -> bool:
        """Whether a running trial has no worker noted: that is about to do so, or was killed at that point."""
        return any(not record.has_worker for record in self.records(TrialState.RUNNING))

    def is_cancelled(self) -> bool:
        """Whether the study was cancelled: no trial is claimed until it is resumed."""
        return self._noted(StudyKey.CANCELLED).cancelled

    def priority(self) -> int:
        """Return the study's priority; workers take the trials of those with a higher one first."""
        return self._noted(StudyKey.PRIORITY).priority

    def is_stopped(self, trial_id: int) -> bool:
        """Whether a user has ended a trial's cell: see `TrialQueue.stop`."""
        return bool(self.rows(_STOPPED, trial=trial_id)[0][0])

    def cells_since(self, trial_id: int) -> tuple[set[str], int]:
        """Return the cells (by hash) of the trials added after the one with `trial_id`, and the newest one's id."""
        found = self.trials_since(trial_id)
        return {cell for _, cell in found}, found[-1][0] if found else trial_id

    def trials_since(self, trial_id: int) -> list[tuple[int, str]]:
        """Return the id and the cell (its hash) of each trial added after the one with `trial_id`, by id."""
        rows = self.rows(_CELLS_SINCE, after=trial_id)
        with translated(self.storage.database):
            return [(int(added), json.loads(cell)) for added, cell in rows]

    def first_unfinished(self, after: int) -> int | None:
        """Return the id of the first trial after the one with the id `after` that has not ended, anybody's."""
        rows = self.rows(_FIRST_UNFINISHED, after=after)
        return int(rows[0][0]) if rows else None

    def begun_since(self, after: int, known: Collection[int]) -> list[FrozenTrial]:
        """Return the trials after the one with the id `after` that a worker has begun, anybody's, but for `known`."""
        ids = [trial_id for (trial_id,) in self.rows(_BEGUN, after=after) if trial_id not in known]
        chosen = trials_of(self.study_id)
        parts = (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
        return [
            trial
            for part in parts
            for trial in self.storage.trials(chosen.where(TRIALS.c.trial_id.in_(part)))
        ]

    @cached_property
    def _maximizes_first(self) -> bool:
        return self._study.directions[0] is optuna.study.StudyDirection.MAXIMIZE

    def search(self) -> Mapping[str, Any] | None:
        """Return the grid file of the study's search, as it is noted; None if the study is a grid's."""
        return self._noted(StudyKey.SEARCH).search

    def _noted(self, *keys: str) -> StudyRecord:
        """Return the study's record as far as `keys` tell, without reading what may be long."""
        rows = self.rows(_ATTRIBUTES, keys=[*keys, *map(noted, keys)])
        with translated(self.storage.database):
            found = StudyRecord.read(self.name, {key: json.loads(value) for key, value in rows})
        return self._completed(found)

    def _completed(self, record: StudyRecord) -> StudyRecord:
        """Return a record that knows the time by the database's clock, and how many trials failed, if it needs to."""
        if record.deadline is not None or record.engine:
            record = replace(record, asked=self.storage.now())
        return record if record.max_failures is None else replace(record, failed=self.failed())

    def _waits(self) -> bool:
        return bool(self._next_waiting(0, most=1))

    def _next_waiting(self, after: int, most: int) -> list[int]:
        """Return the ids of the next waiting trials, at most so many, after the one with the id `after`."""
        return [int(trial_id) for (trial_id,) in self.rows(_NEXT_WAITING, after=after, most=most)]

    def _flags(self) -> StudyRecord:
        """Return the study's record as far as it decides whether trials may start."""
        return self._noted(*_FLAGS)

    def _starts_none(self) -> bool:
        return self._flags().starts_none

    def _all_trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    def rows(self, query: sa.Executable, **values: Any) -> list[Any]:
        """Return the rows of a query about the study, whose id is the parameter `study`."""

        def read() -> list[Any]:
            with self.storage.engine.connect().execution_options(**READING) as connection:
                return list(connection.execute(query, {"study": self.study_id, **values}))

        return self.storage.patiently(read)
