"""The cells of one study as Optuna trials: added once, claimed by exactly one worker, put back or finished.

A trial's user attributes hold what a worker needs and what it leaves (see `TrialKey`). All writes go through Optuna's
public API, so its own tools show the study too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from lab.config import TrialConfig, parse_config
from lab.errors import ConfigError, StudyError
from lab.identity import process_name
from lab.study.faults import MalformedError
from lab.study.keys import StudyKey, TrialKey, noted
from lab.study.lock import locked
from lab.study.record import StudyRecord, TrialRecord
from lab.study.storage import PatientStorage
from lab.study.view import StudyView
from lab.training import Outcome

__all__ = ["Claim", "Queued", "TrialQueue"]

# A process claims the next waiting trial, and once others have been quicker any one of so many. If all went for the
# same trial, each would wait for all the others: with 60 of them, a claim took six seconds.
_SPREAD, _MOST_SPREAD = 8, 512
_MOST_TOO_LONG = 20  # after so many trials that do not fit, no shorter one is looked for


@dataclass(frozen=True)
class Claim:
    """A trial that only this process may train."""

    trial_id: int
    number: int
    label: str
    config: TrialConfig
    params: Mapping[str, Any]
    run_id: str | None  # of the run to continue
    earlier_error: str = ""  # why an earlier attempt failed
    tried: bool = False  # whether a worker had it before, which may have been killed before it noted its run


@dataclass(frozen=True)
class Queued:
    """A trial to be queued.

    Attributes:
        params: Optuna's.
        distributions: of each of these.
        attributes: lab's, by their keys.
        intermediate_values: what an earlier attempt has reported, by epoch.
    """

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    attributes: Mapping[str, Any]
    intermediate_values: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def cell(
        cls,
        config: TrialConfig,
        label: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> Self:
        """Return a cell of a grid."""
        attributes = {
            TrialKey.CELL: config.cell_hash,
            TrialKey.CONFIG: config.as_values(),
            TrialKey.LABEL: label,
        }
        return cls(params, distributions, attributes)

    @classmethod
    def draft(cls, name: str, **attributes: Any) -> Self:
        """Return a search's trial, whose parameters are chosen when it is claimed."""
        return cls({}, {}, {TrialKey.CELL: name, TrialKey.LABEL: name, **attributes})

    def frozen(self) -> FrozenTrial:
        """Return it as Optuna has it."""
        return create_trial(
            state=TrialState.WAITING,
            params=dict(self.params),
            distributions=dict(self.distributions),
            user_attrs={noted(key): value for key, value in self.attributes.items()},
            intermediate_values=dict(self.intermediate_values),
        )


class TrialQueue(StudyView):
    """The trials of the study called `name` in `storage`, to be added, claimed, put back and finished."""

    def __init__(self, storage: PatientStorage, name: str) -> None:
        super().__init__(storage, name)
        self._cursor = 0  # the id up to which this process has looked at trials
        self._spread = 1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from adding trials to this study until the end of the block.

        Whoever looks at what is there and adds what is missing must do both inside; `add` does not take the lock.
        Where the database may be unreachable, all of it, with the look, must be one call of `storage.patiently`.

        Raises:
            StudyError: another process has held it for long, or a stop was asked for: see `lab.study.lock`.
        """
        with locked(self.storage.engine, f"study {self.name}", self.storage.should_stop):
            yield

    def note(self, key: str, value: Any) -> None:
        """Note something about the study under a `StudyKey`."""
        self.storage.set_study_user_attr(self.study_id, noted(key), value)

    def note_trial(self, trial_id: int, key: str, value: Any) -> None:
        """Note something about a trial under a `TrialKey` or the name of a metric."""
        self.storage.set_trial_user_attr(trial_id, noted(key), value)

    def note_facts(self, trial_id: int, facts: Mapping[str, Any]) -> None:
        """Note several things about a trial at once: see `note_trial`."""
        self.storage.set_trial_user_attrs(trial_id, {noted(key): value for key, value in facts.items()})

    def cancel(self) -> None:
        """Keep workers from claiming trials until the study is resumed."""
        self.note(StudyKey.CANCELLED, True)

    def resume(self) -> None:
        """Undo `cancel`, restart the budget's clock, and let as many trials fail as `max_failures` says."""
        self.note(StudyKey.CANCELLED, False)
        self.restart_clock()
        self.forgive()
        if self.waits():
            self.note(StudyKey.CONCLUDED, False)

    def restart_clock(self) -> None:
        """Let the budget's clock begin again, at the next claim."""
        self.note(StudyKey.BEGAN, None)

    def forgive(self) -> None:
        """Count only trials that fail from now on: a user knows of the others."""
        self.note(StudyKey.FORGIVEN, self.failed())

    def add(
        self,
        config: TrialConfig,
        label: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Queue a cell."""
        self.enqueue([Queued.cell(config, label, params, distributions)])

    def draft(self, name: str, **attributes: Any) -> None:
        """Queue a draft: a search's trial whose parameters are chosen when it is claimed."""
        self.enqueue([Queued.draft(name, **attributes)])

    def enqueue(self, trials: Iterable[Queued]) -> None:
        """Add waiting trials, all of them or none.

        Raises:
            StudyError: Optuna refuses their parameters.
        """
        frozen = [trial.frozen() for trial in trials]
        try:
            if frozen:
                self.storage.add_trials(self.study_id, frozen)
        except ValueError as error:  # `accept` has made those of lab's trials fit
            raise StudyError(
                f"Optuna rejects a trial of the study '{self.name}': {error}. Another program has added trials "
                "whose parameters have other choices; give the grid another `name`"
            ) from None

    def describe(self, trial_id: int, config: TrialConfig, label: str) -> None:
        """Note what is to be trained in a claimed draft; the config last, as it makes the draft a complete trial."""
        self.note_trial(trial_id, TrialKey.LABEL, label)
        self.note_trial(trial_id, TrialKey.CONFIG, config.as_values())

    def void(self, record: TrialRecord, reason: str) -> None:
        """End a trial, claimed or waiting, that is not trained and counts for nothing: Optuna has it as PRUNED."""
        trial_id = record.trial_id
        with suppress(UpdateFinishedTrialError):
            if record.trial.state is TrialState.WAITING:
                self.beat(trial_id)  # first: were this process killed in between, its silence would tell
                if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    return  # a worker was quicker
                self.note_trial(trial_id, TrialKey.WORKER, process_name())
            self.note_trial(trial_id, TrialKey.VOID, reason[:1000])
            self.storage.set_trial_state_values(trial_id, TrialState.PRUNED)

    def stop(self, trial_id: int) -> bool:
        """End a trial for good, without a failure: at once if it waits, otherwise its worker does after this epoch.

        It counts as pruned, as if a pruner had seen that it is not worth more. Returns whether it has ended now.
        """
        with suppress(UpdateFinishedTrialError):
            self.note_trial(trial_id, TrialKey.STOPPED, True)  # first: a worker may claim it at this moment
            record = TrialRecord(self.storage.get_trial(trial_id))
            waits = record.trial.state is TrialState.WAITING
            if waits and self._ends_at_once(record) and self._swap(trial_id):
                self._end_stopped(trial_id, record)
                return True
        return False

    def _ends_at_once(self, record: TrialRecord) -> bool:
        """Return whether a trial that waits can be pruned without training.

        Optuna's samplers fail on pruned trials with reports where there are several objectives: a worker completes it.
        """
        return record.last_value is None or len(self._study.directions) == 1

    def _end_stopped(self, trial_id: int, record: TrialRecord) -> None:
        values = None if record.last_value is None else [record.last_value]
        self.note_trial(trial_id, TrialKey.OUTCOME, str(Outcome.PRUNED))
        self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, values)

    def claim(
        self,
        prepare: Callable[[int], bool] = lambda trial_id: True,
        *,
        alone: bool = True,
        only_alone: bool = False,
        fits: Callable[[TrialRecord], bool] = lambda record: True,
    ) -> Claim | None:
        """Take the next waiting trial for this process; None if none may start.

        Args:
            prepare: called with a claimed trial's id; False if it is not to be trained, and has been ended.
            alone: whether this process has its GPU to itself: trials that need that are left to such processes.
            only_alone: whether to take no others.
            fits: whether there is time for a trial; after a number of those that do not fit, no other is looked at.

        Raises:
            StudyError: nothing waits but trials whose config cannot be read.
        """
        study = self._flags()
        if study.cancelled or study.is_late or study.fails_too_often:
            return None
        unreadable: list[StudyError] = []
        too_long = 0
        for trial_id in self._candidates():
            try:
                record = self._readable(trial_id)
            except StudyError as error:
                unreadable.append(error)
                continue
            if record.is_stopped and self._ends_at_once(record):  # its worker died before it could end it
                self.stop(trial_id)
                continue
            if (record.alone and not alone) or (only_alone and not record.alone):
                continue
            if not fits(record):
                too_long += 1
                if too_long >= _MOST_TOO_LONG:
                    break
                continue
            if self._take(record, study):
                if study.max_failures is not None and self._flags().fails_too_often:
                    self.put_back(trial_id)  # the last one that may fail has failed since this process looked
                    return None
                # unless another process has ended it meanwhile, because this one was thought dead
                with suppress(UpdateFinishedTrialError):
                    if prepare(trial_id):
                        return self._claimed(trial_id)
        if unreadable and not too_long:
            raise unreadable[0]
        return None

    def _candidates(self) -> Iterator[int]:
        """Yield each waiting trial once: first those after the cursor, then those before it."""
        seen: set[int] = set()
        end: int | None = None  # of the second round: one of those before may have been put back
        while True:
            found = self._next_waiting(self._cursor, self._spread)
            if end is not None and (not found or found[0] > end):
                return
            if not found:
                end, self._cursor = self._cursor, 0
            elif fresh := [trial_id for trial_id in found if trial_id not in seen]:
                chosen = secrets.choice(fresh)  # `random` is seeded alike in all processes that train
                self._cursor = chosen if chosen == found[0] else found[0] - 1
                seen.add(chosen)
                yield chosen
            else:
                self._cursor = found[-1]

    def _take(self, record: TrialRecord, study: StudyRecord) -> bool:
        """Claim a waiting trial, and return whether this process was the first to."""
        taken = record.trial.state is TrialState.WAITING and self._swap(record.trial_id)
        self._spread = max(self._spread // 2, 1) if taken else min(_SPREAD * self._spread, _MOST_SPREAD)
        if taken and study.seconds is not None and study.began is None:
            self.note(StudyKey.BEGAN, self.storage.now())
        return taken

    def _swap(self, trial_id: int) -> bool:
        """Make a waiting trial this process's running one, unless another is quicker."""
        self.beat(trial_id)  # first: one put back long ago would look stale
        with suppress(UpdateFinishedTrialError):  # the other is done already
            if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                self.note_trial(trial_id, TrialKey.WORKER, process_name())
                return True
        return False

    def _readable(self, trial_id: int) -> TrialRecord:
        """Return the record of a waiting trial.

        Raises:
            StudyError: it cannot be trained here; it is left to another process that can.
        """
        try:
            record = TrialRecord(self.storage.get_trial(trial_id))
            if record.is_readable:
                parse_config(record.config or {})
                return record
            which, reason = f"{record.number} ({record.label})", "it has no config"
        except MalformedError as error:
            which, reason = f"with the id {trial_id}", error.why
        except ConfigError as error:
            which, reason = f"{record.number} ({record.label})", ", ".join(str(error).splitlines())
        raise StudyError(
            f"The trial {which} of the study '{self.name}' cannot be read: {reason}. "
            "Was it queued by a newer version of lab, or by a program that registers its own names? "
            "It is left waiting"
        )

    def beat(self, trial_id: int) -> None:
        """Record a heartbeat: the trial's worker is alive."""
        self.storage.record_heartbeat(trial_id)

    def renew(self, trial_id: int) -> bool:
        """Record a heartbeat of a claimed trial if it is still this process's; return whether it is after that.

        Raises: as `is_mine`.
        """
        if not self.is_mine(trial_id):
            return False
        self.storage.try_heartbeat(trial_id)
        return self.is_mine(trial_id)

    def report(self, trial_id: int, epoch: int, value: float) -> None:
        """Report the monitored metric after an epoch to Optuna; a value that is already there stays."""
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)

    def complete(self, trial_id: int, *values: float) -> None:
        """Finish a claimed trial with its best value, or with one for each objective of a search."""
        self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)

    def prune(self, trial_id: int, value: float) -> None:
        """Finish a claimed trial that was pruned, with its last reported value, as Optuna does."""
        self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, [value])

    def fail(self, trial_id: int) -> None:
        """Finish a claimed trial that raised."""
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def put_back(self, trial_id: int, worker: str | None = None, *, alone: bool = False) -> None:
        """Put a claimed trial back, for any worker to continue; unless another worker has it by now.

        Args:
            trial_id: of the trial.
            worker: the name of the worker that must still have it; this process if None.
            alone: whether only a worker that has its GPU to itself may continue it, because memory ran out.
        """
        trial = self.storage.get_trial(trial_id)
        holder = process_name() if worker is None else worker
        if trial.state is TrialState.RUNNING and TrialRecord(trial).worker_name != holder:
            return
        with suppress(UpdateFinishedTrialError):
            # the next worker notes its name after its claim: until then the trial must not look like this one's
            self.note_trial(trial_id, TrialKey.WORKER, None)
            self.note_trial(trial_id, TrialKey.PUT_BACK, True)
            if alone:
                self.note_trial(trial_id, TrialKey.ALONE, True)
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

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
