"""The cells of one study as Optuna trials: added once, claimed by exactly one worker, put back when it stops.

A trial's user attributes carry what a worker needs (`lab:config`) and what it leaves (`lab:run_id`, `lab:worker`,
`lab:outcome`, results). Writing is Optuna's public API, so its own tools show the study too; what is asked often,
or of thousands of trials, is asked of its tables. Trials that another program has added to the study are left alone.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
import psutil
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from lab.config import TrialConfig, parse_config
from lab.errors import ConfigError, StudyError
from lab.hold import Stopwatch
from lab.study.distributions import widened
from lab.study.lock import alone
from lab.study.record import OWN_TRIAL, TrialRecord, noted, study_attributes
from lab.study.storage import HEARTBEAT_SECONDS, READING, PatientStorage
from lab.training import Outcome

__all__ = ["Claim", "TrialQueue", "failure", "is_dead", "is_deleted", "is_void", "worker_name"]

_MAX_RETRIES = 2  # of a study that does not say
_CELL = ("cell", "config", "label", "enqueued")  # what a trial is about
_KEPT = (*_CELL, "run_id", "retries", "earlier_error")  # what a re-queued trial takes along
_DIED = "its process died every time it was tried"

_SET_DISTRIBUTION = sa.text(
    "UPDATE trial_params SET distribution_json = :json WHERE param_name = :name "
    f"AND trial_id IN (SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND {OWN_TRIAL})"
)
# From a given trial on, along the index of the study's trials: what was claimed before costs nothing.
_NEXT_WAITING = sa.text(
    "SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND t.trial_id > :after AND t.state = 'WAITING' "
    f"AND {OWN_TRIAL} ORDER BY t.trial_id LIMIT 1"
)
_WAITING = sa.text(
    f"SELECT COUNT(*) FROM trials t WHERE t.study_id = :study AND t.state = 'WAITING' AND {OWN_TRIAL}"
)
_UNFINISHED = sa.text(
    "SELECT DISTINCT t.state FROM trials t WHERE t.study_id = :study AND t.state IN ('WAITING', 'RUNNING') "
    f"AND {OWN_TRIAL}"
)
_HOLDER = sa.text(
    "SELECT t.state, a.value_json FROM trials t LEFT JOIN trial_user_attributes a "
    "ON a.trial_id = t.trial_id AND a.key = 'lab:worker' WHERE t.trial_id = :trial"
)
_CELLS_SINCE = sa.text(
    "SELECT t.trial_id, a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study AND t.trial_id > :after AND a.key IN ('lab:cell', 'cell') "
    f"AND {OWN_TRIAL} ORDER BY t.trial_id"
)
_DISTRIBUTION = sa.text(
    "SELECT p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
    f"WHERE t.study_id = :study AND p.param_name = :name AND {OWN_TRIAL} LIMIT 1"
)
_ATTRIBUTE = sa.text(
    "SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key IN (:key, :old) "
    "ORDER BY CASE WHEN key = :key THEN 0 ELSE 1 END LIMIT 1"
)


def worker_name() -> str:
    """Return what tells this process from every other: host, process id and when it started."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone may train."""

    trial_id: int
    number: int
    label: str
    config: TrialConfig
    params: Mapping[str, Any]
    run_id: str | None  # of the run to continue
    earlier_error: str = ""  # why an earlier attempt failed
    tried: bool = False  # whether a worker had it before, which may have been killed before it said its run


class TrialQueue:
    """The trials of the study called `name` in `storage`; the study must exist."""

    def __init__(self, storage: PatientStorage, name: str) -> None:
        self.storage = storage
        self.name = name
        self.study_id = storage.get_study_id_from_name(name)
        self._study = optuna.load_study(study_name=name, storage=storage)
        self._claimed_last = 0  # id of the trial that this process looked at last
        self._given_up: list[FrozenTrial] = []

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else add trials to this study until the end of the block.

        What is added after a look at what is there must be inside; `add` and `requeue` do not ask by themselves.
        Where the database may be away, all of it, with the look, must be a call of `storage.patiently`.
        """
        with alone(self.storage.engine, f"study {self.name}"):
            yield

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the study's own trials in any of `states` (all if none is given), by number."""
        return [trial for trial in self._all_trials(*states) if TrialRecord(trial).is_own]

    def others(self) -> list[FrozenTrial]:
        """Return the trials that another program has added to the study, which lab leaves alone."""
        return [trial for trial in self._all_trials() if not TrialRecord(trial).is_own]

    def completed(self) -> list[FrozenTrial]:
        """Return the trials that have a value, by number."""
        return self.trials(TrialState.COMPLETE)

    def waits(self) -> bool:
        """Whether any trial is waiting for a worker."""
        return bool(self._rows(_NEXT_WAITING, after=0)) and not self.has_ended()

    def waiting(self) -> int:
        """Return how many trials are waiting."""
        return 0 if self.has_ended() else int(self._rows(_WAITING)[0][0])

    def is_over(self) -> bool:
        """Whether no trial is waiting or running; in a search that has ended, none running."""
        states = {state for (state,) in self._rows(_UNFINISHED)}
        return not states or (states == {"WAITING"} and self.has_ended())

    def has_ended(self) -> bool:
        """Whether the study is a search that has reached what its file asks for: what waits of it is not begun."""
        ended = self.attribute("ended")
        return ended is not None and ended == self.attribute("search")

    def is_mine(self, trial_id: int) -> bool:
        """Whether a claimed trial still is this process's: neither ended nor given to another.

        Raises:
            StudyError: the database is away just now. Who asks this does not wait for it.
        """
        try:
            with self.storage.engine.connect().execution_options(**READING) as connection:
                row = connection.execute(_HOLDER, {"trial": trial_id}).one_or_none()
        except sa.exc.SQLAlchemyError as error:
            raise StudyError(f"Whose trial it is cannot be asked now: {error}") from None
        return row is not None and row[0] == "RUNNING" and json.loads(row[1] or "null") == worker_name()

    def is_left(self, trial: FrozenTrial) -> bool:
        """Whether a trial that was put back or given up still is nobody's: its cell was not taken up since."""
        trial_id = self._trial_id(trial.number)
        state = self.storage.get_trial(trial_id).state
        later, _ = self.cells_since(trial_id)
        return state in (TrialState.WAITING, TrialState.FAIL) and TrialRecord(trial).cell not in later

    @property
    def max_retries(self) -> int:
        """How often a trial is queued again whose process died; then it is failed."""
        return int(self.attributes().get("max_retries", _MAX_RETRIES))

    def is_lost(self, trial: FrozenTrial) -> bool:
        """Whether a trial's process died before the trial had ended, and it may be tried again.

        It may have died after it had noted another outcome, and before it could tell Optuna.
        """
        died = trial.state is TrialState.FAIL and TrialRecord(trial).outcome != Outcome.FAILED
        return died and self._may_retry(trial)

    def is_disowned(self) -> bool:
        """Whether a trial runs whose worker has not said who it is: it is about to, or was killed just there."""
        return any(not TrialRecord(trial).has_worker for trial in self.trials(TrialState.RUNNING))

    def is_cancelled(self) -> bool:
        """Whether the study was cancelled: nothing of it is claimed until it is resumed."""
        return bool(self.attribute("cancelled", False))

    def cells_since(self, trial_id: int) -> tuple[set[str], int]:
        """Return the cells (by hash) of the trials added after the one with `trial_id`, and the newest one's id."""
        rows = self._rows(_CELLS_SINCE, after=trial_id)
        return {json.loads(cell) for _, cell in rows}, rows[-1][0] if rows else trial_id

    def maximizes(self) -> bool:
        """Whether higher values of the monitored metric are better."""
        first = self._study.directions[0] is optuna.study.StudyDirection.MAXIMIZE
        return bool(self.attributes().get("maximize", first))

    def attributes(self) -> dict[str, Any]:
        """Return lab's attributes of the study; one whose value has another form is not there."""
        return study_attributes(self.storage.get_study_user_attrs(self.study_id))

    def attribute(self, key: str, default: Any = None) -> Any:
        """Return one of lab's attributes of the study, whatever form it has."""
        rows = self._rows(_ATTRIBUTE, key=noted(key), old=key)
        return json.loads(rows[0][0]) if rows else default

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one of lab's attributes of the study."""
        self.storage.set_study_user_attr(self.study_id, noted(key), value)

    def add(
        self,
        config: TrialConfig,
        label: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Queue a cell."""
        attributes = {
            "cell": config.cell_hash,
            "config": config.as_values(),
            "label": label,
        }
        self._enqueue(params, distributions, attributes)

    def reserve(self, slot: str, **attributes: Any) -> None:
        """Queue a slot of a search: a trial whose parameters are chosen when it is claimed."""
        self._enqueue({}, {}, {"cell": slot, "label": slot, **attributes})

    def describe(self, trial_id: int, config: TrialConfig, label: str) -> None:
        """Note what is to be trained in a claimed slot; the config last, as a slot with one is complete."""
        self.set_trial_attribute(trial_id, "label", label)
        self.set_trial_attribute(trial_id, "config", config.as_values())

    def annotate(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Set one of a waiting trial's user attributes."""
        self.set_trial_attribute(self._trial_id(trial.number), key, value)

    def void(self, trial: FrozenTrial, reason: str) -> None:
        """End a slot, claimed or waiting, that is not trained and counts for nothing: Optuna has it as PRUNED."""
        trial_id = self._trial_id(trial.number)
        with suppress(UpdateFinishedTrialError):
            if trial.state is TrialState.WAITING:
                if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    return  # a worker was quicker
                self.set_trial_attribute(trial_id, "worker", worker_name())
            self.set_trial_attribute(trial_id, "void", reason[:1000])
            self.storage.set_trial_state_values(trial_id, TrialState.PRUNED)

    def accept(self, distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
        """Return `distributions` so widened that they also hold what the study's trials have, and theirs likewise.

        Optuna refuses a parameter whose choices differ from those of the study's other trials; a grid file
        that gains a choice would need a new study. Choices are stored by position, so appending some is safe.

        Raises:
            StudyError: a parameter was a number and is a choice now, or the other way round.
        """
        known = {
            name: json_to_distribution(rows[0][0])  # the same in all trials, since this was called for each
            for name in distributions
            if (rows := self._rows(_DISTRIBUTION, name=name))
        }
        accepted = {name: widened(name, known.get(name), new) for name, new in distributions.items()}
        for name, distribution in accepted.items():
            if name in known and known[name] != distribution:
                with self.storage.engine.begin() as connection:
                    connection.execute(
                        _SET_DISTRIBUTION,
                        {"json": distribution_to_json(distribution), "name": name, "study": self.study_id},
                    )
        return accepted

    def claim(self, prepare: Callable[[int], bool] = lambda trial_id: True) -> Claim | None:
        """Take the next waiting trial for this process; None when none is waiting or the study is cancelled.

        Args:
            prepare: called with a claimed trial's id; False if it is not to be trained, and has been ended.

        Raises:
            StudyError: nothing waits but trials whose config cannot be read.
        """
        if self.is_cancelled():
            return None
        unreadable: list[StudyError] = []
        for trial_id in self._candidates():
            fault = self._unreadable(trial_id)
            if fault is not None:
                unreadable.append(fault)
                continue
            self.beat(trial_id)  # first: one put back long ago would look stale
            with suppress(UpdateFinishedTrialError):  # somebody else was quicker, and is done already
                if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    self.set_trial_attribute(trial_id, "worker", worker_name())
                    if prepare(trial_id):
                        return self._claimed(trial_id)
        if unreadable:
            raise unreadable[0]
        return None

    def _candidates(self) -> Iterator[int]:
        """Yield each waiting trial once: those after the last that was looked at, then those before it."""
        seen: set[int] = set()
        began = self._claimed_last
        while True:
            rows = self._rows(_NEXT_WAITING, after=self._claimed_last)
            if not rows and began:  # those before may have been put back
                rows, began = self._rows(_NEXT_WAITING, after=0), 0
            if not rows or rows[0][0] in seen:
                return
            self._claimed_last = rows[0][0]
            seen.add(self._claimed_last)
            yield self._claimed_last

    def _unreadable(self, trial_id: int) -> StudyError | None:
        """Return why nobody here can train a waiting trial: it is left for who can."""
        try:
            record = TrialRecord(self.storage.get_trial(trial_id))
            if record.is_readable:
                parse_config(record.config or {})
                return None
            which, reason = f"{record.number} ({record.label})", "it has no config"
        except json.JSONDecodeError as error:
            which, reason = f"with the id {trial_id}", f"an attribute is not JSON ({error})"
        except ConfigError as error:
            which, reason = f"{record.number} ({record.label})", ", ".join(str(error).splitlines())
        return StudyError(
            f"The trial {which} of the study '{self.name}' cannot be read: {reason}. "
            "Was it queued by a newer version of lab, or by a program that registers names of its own? "
            "It is left waiting"
        )

    def run_ids(self) -> set[str]:
        """Return the runs that the study's trials have."""
        return {run_id for trial in self.trials() if (run_id := TrialRecord(trial).run_id) is not None}

    def beat(self, trial_id: int) -> None:
        """Tell the others that the trial's worker lives."""
        self.storage.record_heartbeat(trial_id)

    def set_trial_attribute(self, trial_id: int, key: str, value: Any) -> None:
        """Set one of lab's attributes of a claimed trial."""
        self.storage.set_trial_user_attr(trial_id, noted(key), value)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """Give Optuna the monitored metric after an epoch (a value that is already there stays)."""
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)

    def complete(self, trial_id: int, *values: float) -> None:
        """Finish a claimed trial with its best value; of a search with several objectives, with their values."""
        self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)

    def prune(self, trial_id: int, value: float) -> None:
        """Finish a claimed trial that was pruned; Optuna gives such trials their last report as value."""
        self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, [value])

    def fail(self, trial_id: int) -> None:
        """Finish a claimed trial that raised."""
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def put_back(self, trial_id: int, worker: str | None = None) -> None:
        """Give a claimed trial back, for any worker to continue; one that another has already stays there.

        Args:
            trial_id: of the trial.
            worker: the name of whose it must still be; this process's if None.
        """
        trial = self.storage.get_trial(trial_id)
        holder = worker_name() if worker is None else worker
        if trial.state is TrialState.RUNNING and TrialRecord(trial).worker_name != holder:
            return
        with suppress(UpdateFinishedTrialError):
            # who claims it next says so after the claim: until then it must not look like this worker's
            self.set_trial_attribute(trial_id, "worker", None)
            self.set_trial_attribute(trial_id, "put_back", True)
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def requeue_dead(self) -> list[FrozenTrial]:
        """Re-queue the running trials whose worker is gone; return those that have died too often and were failed.

        A worker on this machine is gone when its process is; one elsewhere when its heartbeat has stopped. Trials that
        somebody failed for that, and was killed before their successors were queued, are re-queued too.
        """
        waited = Stopwatch()
        if not self.trials(TrialState.RUNNING, TrialState.FAIL):
            return []
        self._given_up.clear()
        self.storage.patiently(lambda: self._requeue_dead(waited))
        return list(self._given_up)

    def _requeue_dead(self, waited: Stopwatch) -> None:
        # alone: a trial that was failed and has no successor yet would look lost to a planner
        with self.alone():
            # not Optuna's `fail_stale_trials`: it would fail those of other programs too
            silent = set(self.storage._get_stale_trial_ids(self.study_id))
            if (
                waited.seconds >= HEARTBEAT_SECONDS
            ):  # where somebody slept on a lock, all who live were silent
                silent.clear()
            for trial in self.trials(TrialState.RUNNING):
                trial_id = self._trial_id(trial.number)
                if trial_id in silent or is_dead(trial):
                    # exactly one process gets to fail it, and so to queue its successor
                    with suppress(UpdateFinishedTrialError):
                        self.fail(trial_id)
                        self._retire(trial)
            self._requeue_lost()

    def put_back_dead(self) -> list[FrozenTrial]:
        """Put back the running trials whose worker on this machine was ended on purpose; return them."""
        dead = [trial for trial in self.trials(TrialState.RUNNING) if is_dead(trial)]
        for trial in dead:
            self.put_back(self._trial_id(trial.number), TrialRecord(trial).worker_name)
        return dead

    def requeue_failed(self, cells: Collection[str] | None = None) -> int:
        """Queue every cell again whose newest trial failed, with all its retries before it; return how many.

        Args:
            cells: hashes of the only cells to queue; all if None.
        """
        return self.storage.patiently(lambda: self._requeue_failed(cells))

    def _requeue_failed(self, cells: Collection[str] | None) -> int:
        with self.alone():
            failed = [trial for trial in self.newest().values() if trial.state is TrialState.FAIL]
            chosen = [trial for trial in failed if cells is None or TrialRecord(trial).cell in cells]
            for trial in chosen:
                self.requeue(trial, retries=0)
            if chosen:
                self.set_attribute("concluded", False)
        return len(chosen)

    def requeue_deleted(self, missing: Collection[str], cells: Collection[str] | None = None) -> int:
        """Queue every cell again whose newest trial has ended and whose run is no more, as if new; return how many.

        Args:
            missing: ids of the runs that are no more.
            cells: hashes of the only cells to queue; all if None.
        """

        def requeue() -> int:
            with self.alone():
                gone = {cell: trial for cell, trial in self.newest().items() if is_deleted(trial, missing)}
                chosen = [trial for cell, trial in gone.items() if cells is None or cell in cells]
                for trial in chosen:
                    self._queue_anew(trial)
                if chosen:
                    self.set_attribute("concluded", False)
            return len(chosen)

        return self.storage.patiently(requeue)

    def requeue_lost(self) -> int:
        """Queue the cells again whose trial's process died, and whose successor was never queued."""

        def requeue() -> int:
            with self.alone():
                return self._requeue_lost()

        return self.storage.patiently(requeue)

    def _requeue_lost(self) -> int:
        lost = [trial for trial in self.newest().values() if self.is_lost(trial)]
        for trial in lost:
            self.requeue(trial)
        if lost:
            self.set_attribute("concluded", False)
        return len(lost)

    def newest(self) -> dict[str, FrozenTrial]:
        """Return each cell's newest trial, by cell hash; of a search each slot's, without those that are void."""
        return {TrialRecord(trial).cell: trial for trial in self.trials() if not is_void(trial)}

    def requeue(self, trial: FrozenTrial, retries: int | None = None) -> None:
        """Queue a failed trial's cell again, to continue the same run.

        Args:
            trial: the failed one.
            retries: how often the cell was retried before; one more than `trial` says if None.
        """
        record = TrialRecord(trial)
        kept = record.kept(_KEPT)
        if retries is not None:
            kept["earlier_error"] = failure(trial)
        kept["retries"] = record.retries + 1 if retries is None else retries
        self._enqueue(trial.params, trial.distributions, kept, trial.intermediate_values)

    def _queue_anew(self, trial: FrozenTrial) -> None:
        """Queue a cell again, to begin a run of its own."""
        self._enqueue(trial.params, trial.distributions, TrialRecord(trial).kept(_CELL))

    def _retire(self, trial: FrozenTrial) -> None:
        if self._may_retry(trial):
            self.requeue(trial)
        else:
            self._given_up.append(trial)

    def _may_retry(self, trial: FrozenTrial) -> bool:
        return TrialRecord(trial).retries < self.max_retries

    def _all_trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    def _rows(self, query: sa.TextClause, **values: Any) -> list[Any]:
        def read() -> list[Any]:
            with self.storage.engine.connect() as connection:
                return list(connection.execute(query, {"study": self.study_id, **values}))

        return self.storage.patiently(read)

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)

    def _enqueue(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: dict[str, Any],
        intermediate_values: Mapping[int, float] | None = None,
    ) -> None:
        trial = create_trial(
            state=TrialState.WAITING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={noted(key): value for key, value in attributes.items()},
            intermediate_values=dict(intermediate_values or {}),
        )
        try:
            self._study.add_trial(trial)
        except ValueError as error:  # `accept` has made those of lab's trials fit
            raise StudyError(
                f"Optuna refuses a trial of the study '{self.name}': {error}. Another program has added trials with "
                "parameters of other choices to it; give the grid another `name`"
            ) from None

    def _claimed(self, trial_id: int) -> Claim:
        trial = self.storage.get_trial(trial_id)
        record = TrialRecord(trial)
        return Claim(
            trial_id,
            trial.number,
            record.label,
            TrialConfig(**(record.config or {})),
            trial.params,
            record.run_id,
            record.earlier_error,
            tried=bool(record.retries or record.was_put_back),
        )


def is_dead(trial: FrozenTrial) -> bool:
    """Return whether the trial's worker was on this machine and is no more."""
    record = TrialRecord(trial)
    if not record.has_worker:  # killed between the claim and saying who it is, unless it is just about to
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > 2 * HEARTBEAT_SECONDS
    if record.worker is None:  # of another form: its heartbeat alone tells
        return False
    host, pid, created = record.worker
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(pid)
        # one that nobody has reaped yet is dead as well
        return f"{process.create_time():.2f}" != created or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_deleted(trial: FrozenTrial, missing: Collection[str]) -> bool:
    """Return whether a trial has ended, and its run is among those that are no more."""
    return trial.state.is_finished() and TrialRecord(trial).run_id in missing


def failure(trial: FrozenTrial) -> str:
    """Return why a trial failed."""
    return TrialRecord(trial).error or _DIED


def is_void(trial: FrozenTrial) -> bool:
    """Return whether a trial was given up before training, and counts for nothing."""
    return TrialRecord(trial).is_void
