"""The cells of one study as Optuna trials: added once, claimed by exactly one worker, put back when it stops.

A trial's user attributes carry what a worker needs (`config`) and what it leaves (`run_id`, `worker`,
`outcome`, results). Writing is Optuna's public API, so its own tools show the study too; what is asked often,
or of thousands of trials, is asked of its tables.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
import psutil
import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from lab.config import TrialConfig
from lab.errors import StudyError
from lab.hold import Stopwatch
from lab.study.lock import alone
from lab.study.storage import HEARTBEAT_SECONDS, READING, PatientStorage
from lab.training import Outcome

__all__ = ["Claim", "TrialQueue", "failure", "is_dead", "is_void", "worker_name"]

_MAX_RETRIES = 2  # of a study that does not say
_KEPT = (
    "cell",
    "config",
    "label",
    "run_id",
    "retries",
    "earlier_error",
    "enqueued",
)  # what a re-queued trial takes along
_DIED = "its process died every time it was tried"

_SET_DISTRIBUTION = sa.text(
    "UPDATE trial_params SET distribution_json = :json WHERE param_name = :name "
    "AND trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"
)
# From a given trial on, along the index of the study's trials: what was claimed before costs nothing.
_NEXT_WAITING = sa.text(
    "SELECT trial_id FROM trials WHERE study_id = :study AND trial_id > :after AND state = 'WAITING' "
    "ORDER BY trial_id LIMIT 1"
)
_WAITING = sa.text("SELECT COUNT(*) FROM trials WHERE study_id = :study AND state = 'WAITING'")
_UNFINISHED = sa.text(
    "SELECT DISTINCT state FROM trials WHERE study_id = :study AND state IN ('WAITING', 'RUNNING')"
)
_HOLDER = sa.text(
    "SELECT t.state, a.value_json FROM trials t LEFT JOIN trial_user_attributes a "
    "ON a.trial_id = t.trial_id AND a.key = 'worker' WHERE t.trial_id = :trial"
)
_CELLS_SINCE = sa.text(
    "SELECT t.trial_id, a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study AND t.trial_id > :after AND a.key = 'cell' ORDER BY t.trial_id"
)
_DISTRIBUTION = sa.text(
    "SELECT p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
    "WHERE t.study_id = :study AND p.param_name = :name LIMIT 1"
)
_ATTRIBUTE = sa.text("SELECT value_json FROM study_user_attributes WHERE study_id = :study AND key = :key")


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
        """Return the trials in any of `states` (all if none is given), by number."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

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
        return state in (TrialState.WAITING, TrialState.FAIL) and trial.user_attrs.get("cell") not in later

    @property
    def max_retries(self) -> int:
        """How often a trial is queued again whose process died; then it is failed."""
        return int(self.attribute("max_retries", _MAX_RETRIES))

    def is_lost(self, trial: FrozenTrial) -> bool:
        """Whether a trial's process died before the trial had ended, and it may be tried again.

        It may have died after it had noted another outcome, and before it could tell Optuna.
        """
        died = trial.state is TrialState.FAIL and trial.user_attrs.get("outcome") != Outcome.FAILED
        return died and self._may_retry(trial)

    def is_disowned(self) -> bool:
        """Whether a trial runs whose worker has not said who it is: it is about to, or was killed just there."""
        return any(trial.user_attrs.get("worker") is None for trial in self.trials(TrialState.RUNNING))

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
        return bool(self.attribute("maximize", first))

    def attributes(self) -> dict[str, Any]:
        """Return the study's user attributes."""
        return self.storage.get_study_user_attrs(self.study_id)

    def attribute(self, key: str, default: Any = None) -> Any:
        """Return one of the study's user attributes."""
        rows = self._rows(_ATTRIBUTE, key=key)
        return json.loads(rows[0][0]) if rows else default

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one of the study's user attributes."""
        self.storage.set_study_user_attr(self.study_id, key, value)

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
        accepted = {name: _widened(name, known.get(name), new) for name, new in distributions.items()}
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
        """
        if self.is_cancelled():
            return None
        while True:
            rows = self._rows(_NEXT_WAITING, after=self._claimed_last)
            if not rows and self._claimed_last:  # those before may have been put back
                rows, self._claimed_last = self._rows(_NEXT_WAITING, after=0), 0
            if not rows:
                return None
            trial_id = self._claimed_last = rows[0][0]
            self.beat(trial_id)  # first: one put back long ago would look stale
            with suppress(UpdateFinishedTrialError):  # somebody else was quicker, and is done already
                if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    self.set_trial_attribute(trial_id, "worker", worker_name())
                    if prepare(trial_id):
                        return self._claimed(trial_id)

    def run_ids(self) -> set[str]:
        """Return the runs that the study's trials have."""
        return {trial.user_attrs["run_id"] for trial in self.trials() if "run_id" in trial.user_attrs}

    def beat(self, trial_id: int) -> None:
        """Tell the others that the trial's worker lives."""
        self.storage.record_heartbeat(trial_id)

    def set_trial_attribute(self, trial_id: int, key: str, value: Any) -> None:
        """Set one of a claimed trial's user attributes."""
        self.storage.set_trial_user_attr(trial_id, key, value)

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
        if trial.state is TrialState.RUNNING and trial.user_attrs.get("worker") != (worker or worker_name()):
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
        with self.alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 2.9
            self.storage.heartbeat_stale_trial_callback = self._retire
            if waited.seconds < HEARTBEAT_SECONDS:  # where somebody slept on a lock, all who live were silent
                optuna.storages.fail_stale_trials(self._study)
            for trial in filter(is_dead, self.trials(TrialState.RUNNING)):
                # exactly one process gets to fail it, and so to queue its successor
                with suppress(UpdateFinishedTrialError):
                    self.fail(self._trial_id(trial.number))
                    self._retire(self._study, trial)
            self._requeue_lost()

    def put_back_dead(self) -> list[FrozenTrial]:
        """Put back the running trials whose worker on this machine was ended on purpose; return them."""
        dead = [trial for trial in self.trials(TrialState.RUNNING) if is_dead(trial)]
        for trial in dead:
            self.put_back(self._trial_id(trial.number), trial.user_attrs.get("worker"))
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
            chosen = [trial for trial in failed if cells is None or trial.user_attrs.get("cell") in cells]
            for trial in chosen:
                self.requeue(trial, retries=0)
            if chosen:
                self.set_attribute("concluded", False)
        return len(chosen)

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
        return {trial.user_attrs.get("cell", ""): trial for trial in self.trials() if not is_void(trial)}

    def requeue(self, trial: FrozenTrial, retries: int | None = None) -> None:
        """Queue a failed trial's cell again, to continue the same run.

        Args:
            trial: the failed one.
            retries: how often the cell was retried before; one more than `trial` says if None.
        """
        kept = {key: trial.user_attrs[key] for key in _KEPT if key in trial.user_attrs}
        if retries is not None:
            kept["earlier_error"] = failure(trial)
        kept["retries"] = kept.get("retries", 0) + 1 if retries is None else retries
        self._enqueue(trial.params, trial.distributions, kept, trial.intermediate_values)

    def _retire(self, _study: optuna.Study, trial: FrozenTrial) -> None:
        if self._may_retry(trial):
            self.requeue(trial)
        else:
            self._given_up.append(trial)

    def _may_retry(self, trial: FrozenTrial) -> bool:
        return int(trial.user_attrs.get("retries", 0)) < self.max_retries

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
        self._study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=dict(params),
                distributions=dict(distributions),
                user_attrs=attributes,
                intermediate_values=dict(intermediate_values or {}),
            )
        )

    def _claimed(self, trial_id: int) -> Claim:
        trial = self.storage.get_trial(trial_id)
        attributes = trial.user_attrs
        return Claim(
            trial_id,
            trial.number,
            attributes["label"],
            TrialConfig(**attributes["config"]),
            trial.params,
            attributes.get("run_id"),
            attributes.get("earlier_error", ""),
            tried=bool(attributes.get("retries") or attributes.get("put_back")),
        )


def _widened(name: str, old: BaseDistribution | None, new: BaseDistribution) -> BaseDistribution:
    if isinstance(old, CategoricalDistribution) and isinstance(new, CategoricalDistribution):
        return CategoricalDistribution((*old.choices, *(c for c in new.choices if c not in old.choices)))
    if isinstance(old, IntDistribution) and isinstance(new, IntDistribution):
        return IntDistribution(min(old.low, new.low), max(old.high, new.high))
    numbers = IntDistribution | FloatDistribution
    if isinstance(old, numbers) and isinstance(new, numbers):
        return FloatDistribution(min(old.low, new.low), max(old.high, new.high))
    if old is not None:
        raise StudyError(
            f"'{name}' was a {_kind(old)} in this study and is a {_kind(new)} now; give the grid another `name`"
        )
    return new


def _kind(distribution: BaseDistribution) -> str:
    return "choice" if isinstance(distribution, CategoricalDistribution) else "number"


def is_dead(trial: FrozenTrial) -> bool:
    """Return whether the trial's worker was on this machine and is no more."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # killed between the claim and saying who it is, unless it is just about to
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > 2 * HEARTBEAT_SECONDS
    host, pid, created = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        # one that nobody has reaped yet is dead as well
        return f"{process.create_time():.2f}" != created or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def failure(trial: FrozenTrial) -> str:
    """Return why a trial failed."""
    return str(trial.user_attrs.get("error", _DIED))


def is_void(trial: FrozenTrial) -> bool:
    """Return whether a trial was given up before training, and counts for nothing."""
    return "void" in trial.user_attrs
