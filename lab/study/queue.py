"""The cells of one study as Optuna trials: added once, claimed by exactly one worker, put back when it stops.

A trial's user attributes carry what a worker needs (`config`) and what it leaves (`run_id`, `worker`,
`outcome`, results). Only Optuna's public API is used, so its own tools show the study too.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
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
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from lab.config import TrialConfig
from lab.errors import StudyError
from lab.study.storage import HEARTBEAT_SECONDS

__all__ = ["MAX_RETRIES", "Claim", "TrialQueue", "worker_name"]

MAX_RETRIES = 2  # after so many deaths of its process a trial is failed, not tried again
_KEPT = ("cell", "config", "label", "run_id", "retries", "enqueued")  # what a re-queued trial takes along


_SET_DISTRIBUTION = sa.text(
    "UPDATE trial_params SET distribution_json = :json WHERE param_name = :name "
    "AND trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"
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


class TrialQueue:
    """The trials of the study called `name` in `storage`; the study must exist."""

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self.storage = storage
        self.name = name
        self.study_id = storage.get_study_id_from_name(name)
        self._study = optuna.load_study(study_name=name, storage=storage)
        self._waiting: deque[int] = deque()  # trial numbers
        self._given_up: list[FrozenTrial] = []
        storage.heartbeat_stale_trial_callback = self._retire

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in any of `states` (all if none is given), by number."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    def completed(self) -> list[FrozenTrial]:
        """Return the trials that have a value, by number."""
        return self.trials(TrialState.COMPLETE)

    def waits(self) -> bool:
        """Whether any trial is waiting for a worker."""
        return bool(self.trials(TrialState.WAITING))

    def maximizes(self) -> bool:
        """Whether higher values of the monitored metric are better."""
        first = self._study.directions[0] is optuna.study.StudyDirection.MAXIMIZE
        return bool(self.attributes().get("maximize", first))

    def attributes(self) -> dict[str, Any]:
        """Return the study's user attributes."""
        return self.storage.get_study_user_attrs(self.study_id)

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
        known: dict[str, BaseDistribution] = {}
        for trial in self.trials():
            known.update(trial.distributions)
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
        """Take the first waiting trial for this process; None when none is waiting.

        Args:
            prepare: called with a claimed trial's id; False if it is not to be trained, and has been ended.
        """
        while True:
            if not self._waiting:
                self._waiting.extend(trial.number for trial in self.trials(TrialState.WAITING))
            if not self._waiting:
                return None
            trial_id = self._trial_id(self._waiting.popleft())
            with suppress(UpdateFinishedTrialError):  # somebody else was quicker, and is done already
                if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    self._hold(trial_id)
                    if prepare(trial_id):
                        return self._claimed(trial_id)

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

    def put_back(self, trial_id: int) -> None:
        """Give a claimed trial back, for any worker to continue."""
        self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def requeue_dead(self) -> list[FrozenTrial]:
        """Re-queue the running trials whose worker is gone; return those that have died too often and were failed.

        A worker on this machine is gone when its process is; one elsewhere when its heartbeat has stopped.
        """
        self._given_up.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 2.9
            optuna.storages.fail_stale_trials(self._study)
        for trial in filter(_is_dead, self.trials(TrialState.RUNNING)):
            # exactly one process gets to fail it, and so to queue its successor
            with suppress(UpdateFinishedTrialError):
                self.fail(self._trial_id(trial.number))
                self._retire(self._study, trial)
        return list(self._given_up)

    def put_back_dead(self) -> list[FrozenTrial]:
        """Put back the running trials whose worker on this machine was ended on purpose; return them."""
        dead = [trial for trial in self.trials(TrialState.RUNNING) if _is_dead(trial)]
        for trial in dead:
            self.put_back(self._trial_id(trial.number))
        return dead

    def requeue_failed(self) -> None:
        """Queue every cell again whose newest trial failed, with all its retries before it."""
        newest = {trial.user_attrs.get("cell"): trial for trial in self.trials()}
        for trial in newest.values():
            if trial.state is TrialState.FAIL:
                self.requeue(trial, retries=0)

    def requeue(self, trial: FrozenTrial, retries: int | None = None) -> None:
        """Queue a failed trial's cell again, to continue the same run.

        Args:
            trial: the failed one.
            retries: how often the cell was retried before; one more than `trial` says if None.
        """
        kept = {key: trial.user_attrs[key] for key in _KEPT if key in trial.user_attrs}
        kept["retries"] = kept.get("retries", 0) + 1 if retries is None else retries
        self._enqueue(trial.params, trial.distributions, kept, trial.intermediate_values)

    def _retire(self, _study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.user_attrs.get("retries", 0) < MAX_RETRIES:
            self.requeue(trial)
        else:
            self._given_up.append(trial)

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

    def _hold(self, trial_id: int) -> None:
        self.beat(trial_id)
        self.set_trial_attribute(trial_id, "worker", worker_name())

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


def _is_dead(trial: FrozenTrial) -> bool:
    """Return whether the trial's worker was on this machine and is no more."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # killed between the claim and saying who it is, unless it is just about to
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > 2 * HEARTBEAT_SECONDS
    host, pid, created = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return bool(f"{psutil.Process(int(pid)).create_time():.2f}" != created)
    except psutil.NoSuchProcess:
        return True
