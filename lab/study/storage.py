"""Optuna's storage, made to outlive a database that is unreachable for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from lab.hold import Stopwatch
from lab.study.faults import DeletedError, Retry, translated
from lab.study.record import TrialRecord
from lab.study.tables import TRIALS, add_trials, read_trials, set_attributes, state_of, trials_of

__all__ = ["READING", "PatientStorage", "clock_ahead"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_CLOCK = sa.text("SELECT extract(epoch FROM clock_timestamp())")
_AGAIN_SECONDS = 600.0  # before the clocks are compared again: somebody may have set one of them
READING = {"reading": True}  # options of a connection that only reads, and so waits for no writer


def _patient(
    method: Callable[Concatenate[Any, Arguments], Result],
) -> Callable[Concatenate[Any, Arguments], Result]:
    """Return a method that does what `method` does, `patiently`, and raises its `KeyError` as a `DeletedError`."""

    @wraps(method)
    def call(self: PatientStorage, /, *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        return self._ask(lambda: method(self, *args, **options))

    return call


def clock_ahead(engine: sa.Engine) -> float | None:
    """Return how many seconds this machine's clock is ahead of the database's; None if that has no clock of its own."""
    if engine.url.get_backend_name() != "postgresql":
        return None
    with engine.connect() as connection:
        before = time.time()
        theirs = connection.execute(_CLOCK).scalar_one()
        return (before + time.time()) / 2 - float(theirs)


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait for a database that is unreachable, and raise its errors as `StudyError`.

    So they do for a study or a trial that is no longer there, where Optuna's raise a `KeyError`.

    Args:
        url: SQLAlchemy's, with its password.
        patiently: does the same for anything else that is done with the database, and for several calls that must be
            done again together.
        database: the address, as the user may see it.
        should_stop: True ends the waiting for what other processes hold.
        options: Optuna's.
    """

    def __init__(
        self, url: str, patiently: Retry, database: str, should_stop: Callable[[], bool], **options: Any
    ) -> None:
        self.patiently = patiently
        self.database = database
        self.should_stop = should_stop
        self._ahead = 0.0
        self._compared: Stopwatch | None = None
        super().__init__(url, **options)

    def now(self) -> float:
        """Return the time by the database's clock, in seconds since 1970: machines' own clocks may differ."""
        if self._compared is None or self._compared.seconds > _AGAIN_SECONDS:
            self._ahead = self.patiently(lambda: clock_ahead(self.engine)) or 0.0
            self._compared = Stopwatch()
        return time.time() - self._ahead

    create_new_study = _patient(RDBStorage.create_new_study)
    delete_study = _patient(RDBStorage.delete_study)
    set_study_user_attr = _patient(RDBStorage.set_study_user_attr)
    set_study_system_attr = _patient(RDBStorage.set_study_system_attr)
    get_study_id_from_name = _patient(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = _patient(RDBStorage.get_study_name_from_id)
    get_study_directions = _patient(RDBStorage.get_study_directions)
    get_study_user_attrs = _patient(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = _patient(RDBStorage.get_study_system_attrs)
    get_all_studies = _patient(RDBStorage.get_all_studies)
    create_new_trial = _patient(RDBStorage.create_new_trial)
    set_trial_param = _patient(RDBStorage.set_trial_param)
    set_trial_intermediate_value = _patient(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = _patient(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = _patient(RDBStorage.set_trial_system_attr)
    get_trial = _patient(RDBStorage.get_trial)
    get_best_trial = _patient(RDBStorage.get_best_trial)
    get_trial_id_from_study_id_trial_number = _patient(RDBStorage.get_trial_id_from_study_id_trial_number)
    get_trial_param = _patient(RDBStorage.get_trial_param)
    get_trial_system_attrs = _patient(RDBStorage.get_trial_system_attrs)
    get_trial_user_attrs = _patient(RDBStorage.get_trial_user_attrs)
    get_current_version = _patient(RDBStorage.get_current_version)
    upgrade = _patient(RDBStorage.upgrade)
    record_heartbeat = _patient(RDBStorage.record_heartbeat)
    # what Optuna's cache and its heartbeats ask
    _set_trial_param = _patient(RDBStorage._set_trial_param)
    _get_trials = _patient(RDBStorage._get_trials)
    _get_stale_trial_ids = _patient(RDBStorage._get_stale_trial_ids)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return a study's trials in any of `states`, by number; nothing else has them, so none is ever copied."""
        chosen = trials_of(study_id)
        if states is not None:
            chosen = chosen.where(TRIALS.c.state.in_([state for state in TrialState if state in states]))
        return self.trials(chosen)

    def trials(self, chosen: sa.Select[Any]) -> list[FrozenTrial]:
        """Return the trials that a statement chooses: see `read_trials`."""

        def read() -> list[FrozenTrial]:
            with self.engine.connect().execution_options(**READING) as connection:
                return read_trials(connection, chosen)

        return self.patiently(read)

    def add_trials(self, study_id: int, trials: Sequence[FrozenTrial]) -> None:
        """Add waiting trials to a study, all of them or none: see `add_trials`."""

        def add() -> None:
            with self.engine.begin() as connection:
                add_trials(connection, study_id, trials)

        self.patiently(add)

    def try_heartbeat(self, trial_id: int) -> None:
        """Record a heartbeat; unlike `record_heartbeat`, do not wait for a database that is unreachable.

        Raises:
            StudyError: it was not recorded.
        """
        with translated(self.database):
            RDBStorage.record_heartbeat(self, trial_id)

    @_patient
    def set_trial_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Set several of a trial's attributes, all of them or none; otherwise as `set_trial_user_attr`."""
        with self.engine.begin() as connection:
            if state_of(connection, trial_id).is_finished():
                raise UpdateFinishedTrialError(f"The trial with the id {trial_id} has already finished")
            set_attributes(connection, trial_id, attributes)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set a trial's state: see Optuna's.

        If the connection broke after it was done, it counts as done. A claim does not: nobody can tell whose it was,
        so the trial is nobody's until it is thought dead and requeued.
        """
        tries = 0

        def set_state() -> bool:
            nonlocal tries
            tries += 1
            if tries > 1 and state is TrialState.WAITING and self._is_claimed(trial_id):
                return True  # it was put back, and another worker has claimed it since
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries > 1 and self.get_trial(trial_id).state is state:
                    return True
                raise

        return self._ask(set_state)

    def _ask(self, call: Callable[[], Result]) -> Result:
        try:
            return self.patiently(call)
        except KeyError as error:  # no study or trial has this id
            raise DeletedError(self.database) from error

    def _is_claimed(self, trial_id: int) -> bool:
        return TrialRecord(self.get_trial(trial_id)).has_worker
