"""What lab has noted of a study and of a trial, as typed records."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from optuna.trial import FrozenTrial, TrialState

from lab import plugins
from lab.config import Notify
from lab.identity import ProcessName
from lab.study.keys import (
    DRAFT_PREFIX,
    HASH_LENGTH,
    OLD_IDENTITY,
    StudyKey,
    TrialKey,
    has_form,
    noted,
    study_attributes,
)
from lab.study.state import State
from lab.training import Outcome

__all__ = ["StudyRecord", "TrialRecord", "newest_of"]

_DRAFT = re.compile(rf"{DRAFT_PREFIX}\d{{1,9}}")
_MAX_RETRIES = 2  # of a study that does not say
_ENGINE_SECONDS = 150.0  # after which what an engine has said is no longer so; it is renewed every minute
_DIED = "its process died every time it was tried"
_KEPT_CELL: Final = (TrialKey.CELL, TrialKey.CONFIG, TrialKey.LABEL, TrialKey.ENQUEUED)
_KEPT: Final = (
    *_KEPT_CELL,
    TrialKey.ALONE,
    TrialKey.RUN_ID,
    TrialKey.RETRIES,
    TrialKey.EARLIER_ERROR,
    TrialKey.STOPPED,
    TrialKey.PROMOTED,
)


@dataclass(frozen=True)
class StudyRecord:
    """What lab has noted of a study.

    Attributes:
        name: of the study.
        monitor: the metric that compares its trials.
        maximize: whether higher values of it are better.
        experiment: name of its experiment.
        run_id: of the study's own run.
        needs: names of the studies that must be over before this one is trained.
        objectives: metrics that a search optimizes.
        max_retries: how often a trial is requeued after its worker died, before it fails.
        max_failures: how many trials may fail before no more start; None for any number.
        failed: how many have failed, each retry of a cell for itself; counted only if `max_failures` limits them.
        forgiven: how many of these had failed when a user last submitted, resumed or retried the study.
        priority: studies with a higher one are worked on first.
        cancelled: whether nothing of it may be claimed until it is resumed.
        notify: who is told of it, and of what, as its grid file says.
        told: what they were told, by the name of the address.
        code: the plug-ins of its trials, from `lab.plugins.records`.
        concluded: whether its leaderboard is made and its run has ended.
        planned: hashes of the cells that its grid file named last; of a search none.
        search: the grid file of a search.
        exhausted: whether its search has reached its budget or its target, so that no trial starts any more.
        data_digests: by cell hash, for cells without a digest, that of the images they were trained on.
        searched_images: by folder, the digest of the images that a search is of.
        searched_weights: by file, the digest of the weights that a search starts from.
        seconds: the budget: how long after `began` trials may still start.
        began: when the first trial was claimed since the study was last submitted or resumed, in seconds since 1970.
        gpu_memory: bytes of GPU memory that one trial needs.
        engine: what a supervisor has said last about the engine that runs its workers, as it was noted.
        fault: what keeps it from being trained; empty if nothing does.
        asked: when it was read, by the clock of the database and so of `began`, in seconds since 1970; None if by this
            machine's.
    """

    name: str
    monitor: str = ""
    maximize: bool = True
    experiment: str = ""
    run_id: str = ""
    needs: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    max_retries: int = _MAX_RETRIES
    max_failures: int | None = None
    failed: int = 0
    forgiven: int = 0
    priority: int = 0
    cancelled: bool = False
    notify: Notify | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[Mapping[str, Any], ...] = ()
    concluded: bool = True  # earlier versions do not say; nothing is left to do
    planned: tuple[str, ...] = ()
    search: Mapping[str, Any] | None = None
    exhausted: bool = False
    data_digests: Mapping[str, str] = field(default_factory=dict)
    searched_images: Mapping[str, str] = field(default_factory=dict)
    searched_weights: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    began: float | None = None
    gpu_memory: int | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    asked: float | None = None

    @classmethod
    def read(cls, name: str, attributes: Mapping[str, Any], *, maximize: bool = True) -> Self:
        """Return the record of the study called `name`.

        Args:
            name: of the study.
            attributes: all that the database has of it, lab's and others'.
            maximize: the direction of its first objective, for studies that do not say how they monitor.
        """
        found = study_attributes(attributes)
        search = found.get(StudyKey.SEARCH)
        return cls(
            name,
            monitor=found.get(StudyKey.MONITOR, ""),
            maximize=found.get(StudyKey.MAXIMIZE, maximize),
            experiment=found.get(StudyKey.EXPERIMENT, name),
            run_id=found.get(StudyKey.RUN_ID, ""),
            needs=tuple(map(str, found.get(StudyKey.NEEDS, ()))),
            objectives=tuple(map(str, found.get(StudyKey.OBJECTIVES, ()))),
            max_retries=found.get(StudyKey.MAX_RETRIES, _MAX_RETRIES),
            max_failures=found.get(StudyKey.MAX_FAILURES),
            forgiven=found.get(StudyKey.FORGIVEN, 0),
            priority=found.get(StudyKey.PRIORITY, 0),
            cancelled=found.get(StudyKey.CANCELLED, False),
            notify=Notify.from_values(found.get(StudyKey.NOTIFY, {})),
            told=found.get(StudyKey.TOLD, {}),
            code=tuple(filter(plugins.is_record, found.get(StudyKey.CODE, ()))),
            concluded=found.get(StudyKey.CONCLUDED, True),
            planned=tuple(map(str, found.get(StudyKey.PLANNED, ()))),
            search=search or None,
            exhausted=search is not None and found.get(StudyKey.EXHAUSTED) == search,
            data_digests=found.get(StudyKey.DATA_DIGESTS, {}),
            searched_images=found.get(StudyKey.SEARCHED_IMAGES, {}),
            searched_weights=found.get(StudyKey.SEARCHED_WEIGHTS, {}),
            seconds=found.get(StudyKey.SECONDS),
            began=found.get(StudyKey.BEGAN),
            gpu_memory=found.get(StudyKey.GPU_MEMORY),
            engine=found.get(StudyKey.ENGINE, {}),
            fault=_fault(attributes, found),
        )

    @property
    def deadline(self) -> float | None:
        """When no more trials start, in seconds since 1970; None without a budget, or before its clock began."""
        return None if self.seconds is None or self.began is None else self.began + self.seconds

    @property
    def is_late(self) -> bool:
        """Whether the deadline was past when the record was read."""
        return self.deadline is not None and self._now >= self.deadline

    @property
    def fails_too_often(self) -> bool:
        """Whether as many trials had failed as may, when the record was read."""
        return self.max_failures is not None and self.failed - self.forgiven >= self.max_failures

    @property
    def starts_none(self) -> bool:
        """Whether no waiting trial starts any more: its search is exhausted, its time is up, or too many failed."""
        return self.exhausted or self.is_late or self.fails_too_often

    @property
    def engine_says(self) -> list[str]:
        """What the engine that runs its workers says about them, and from which machine, a line each.

        Nothing once that was not renewed for a while: then whoever noted it has died.
        """
        lines, at = self.engine.get("lines"), self.engine.get("at")
        if not (isinstance(lines, list) and isinstance(at, int | float)):
            return []
        if self._now - at > _ENGINE_SECONDS:
            return []
        return [f"{line}  ({self.engine.get('host', '?')})" for line in lines]

    @property
    def _now(self) -> float:
        return time.time() if self.asked is None else self.asked


def _fault(attributes: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    missing = set(OLD_IDENTITY) - found.keys()
    if missing:
        return f"its attribute '{min(missing)}' is missing or malformed; submit its grid file again"
    needs = attributes.get(noted(StudyKey.NEEDS), attributes.get(StudyKey.NEEDS, []))
    if not isinstance(needs, list) or not all(isinstance(name, str) for name in needs):
        return "its attribute 'needs' is not a list of studies; submit its grid file again"
    if not all(map(plugins.is_record, found.get(StudyKey.CODE, ()))):
        return "what it has kept of its plug-ins is malformed; submit its grid file again"
    return ""


class TrialRecord:
    """What lab has noted of a trial; of another program's trial nothing.

    Args:
        trial: Optuna's.
        study: the trial's study, on whose retries and cancelling `state` depends.
        missing: ids of the runs that no longer exist, from `Tracker.missing_runs`.
    """

    def __init__(
        self, trial: FrozenTrial, study: StudyRecord | None = None, missing: Collection[str] = ()
    ) -> None:
        self.trial = trial
        self.number = trial.number
        self._study = study or StudyRecord("")
        self._missing = missing
        self._attributes = trial.user_attrs
        self._is_old = noted(TrialKey.CELL) not in trial.user_attrs

    def __contains__(self, key: str) -> bool:
        return noted(key) in self._attributes or (self._is_old and key in self._attributes)

    @property
    def trial_id(self) -> int:
        """Optuna's id of it, which is unique in its database."""
        return self.trial._trial_id

    @property
    def state(self) -> State:
        """The state of its cell, if it is the cell's newest trial."""
        if self.lacks_successor:
            return State.INTERRUPTED
        if self.is_deleted:
            return State.DELETED
        if self.trial.state is TrialState.RUNNING:
            return State.INTERRUPTED if self.is_dead else State.RUNNING
        if self.trial.state is TrialState.WAITING:
            return State.CANCELLED if self._study.cancelled else State.WAITING
        if self.trial.state is TrialState.FAIL:
            return State.FAILED
        return State.COMPLETE if self.trial.state is TrialState.COMPLETE else State.PRUNED

    @property
    def lacks_successor(self) -> bool:
        """Whether its worker died, another process failed it for that and was killed before it could requeue it.

        The worker may have died after it had noted another outcome, and before it could tell Optuna.
        """
        died = self.trial.state is TrialState.FAIL and self.outcome != Outcome.FAILED
        return died and self.may_retry

    @property
    def may_retry(self) -> bool:
        """Whether it may be requeued after its worker died."""
        return self.retries < self._study.max_retries

    @property
    def is_deleted(self) -> bool:
        """Whether it has ended, and its run no longer exists."""
        return self.trial.state.is_finished() and self.run_id in self._missing

    @property
    def is_dead(self) -> bool:
        """Whether its worker was on this machine and has exited.

        Its heartbeat alone tells that of one elsewhere, of one whose name is malformed, and of one that was killed
        between its claim and saying who it is: the trial's own times are by that machine's clock.
        """
        return self.worker is not None and self.worker.is_dead()

    @property
    def is_own(self) -> bool:
        """Whether lab has queued the trial: it has a cell, or a place in a search's budget."""
        cell = self._text(TrialKey.CELL)
        if self._is_old and self._text(TrialKey.LABEL) is None:
            return False
        return cell is not None and (len(cell) == HASH_LENGTH or bool(_DRAFT.fullmatch(cell)))

    @property
    def is_draft(self) -> bool:
        """Whether it is a search's, and what to train in it is not chosen yet."""
        return bool(_DRAFT.fullmatch(self.cell)) and TrialKey.CONFIG not in self

    @property
    def is_readable(self) -> bool:
        """Whether it is known what to train in it, or that a search has to choose it."""
        return self.config is not None or self.is_draft

    @property
    def cell(self) -> str:
        """The hash of its cell; of a search's trial the name that it had as a draft."""
        return self._text(TrialKey.CELL) or ""

    @property
    def draft_number(self) -> int:
        """Of a search's trial: its number among those that the budget allows, from 0."""
        return int(self.cell.removeprefix(DRAFT_PREFIX))

    @property
    def label(self) -> str:
        """Its name for people; its number if it has none."""
        return self._text(TrialKey.LABEL) or str(self.number)

    @property
    def config(self) -> dict[str, Any] | None:
        """The settings of its config that are not defaults."""
        return self._mapping(TrialKey.CONFIG)

    @property
    def epochs(self) -> int | None:
        """Maximum number of epochs, if its config says."""
        found: Any = (self.config or {}).get("epochs")
        return int(found) if has_form(found, (int,)) and found > 0 else None

    @property
    def epoch(self) -> int:
        """The last epoch (1-based) that was reported; 0 before the first."""
        return max(self.trial.intermediate_values, default=0)

    @property
    def last_value(self) -> float | None:
        """The monitored metric after that epoch."""
        return self.trial.intermediate_values.get(self.epoch)

    def best_until(self, epoch: int, *, maximize: bool) -> float | None:
        """Return the best value of the monitored metric in the epochs up to `epoch`; None if there is none."""
        values = [value for at, value in self.trial.intermediate_values.items() if at <= epoch]
        return (max if maximize else min)(values) if values else None

    @property
    def run_id(self) -> str | None:
        """The id of its run."""
        return self._text(TrialKey.RUN_ID)

    @property
    def has_worker(self) -> bool:
        """Whether a worker has noted that the trial is its own."""
        return self._value(TrialKey.WORKER) is not None

    @property
    def worker(self) -> ProcessName | None:
        """The process of its worker; None without one, or if the name is malformed."""
        return ProcessName.parse(self.worker_name)

    @property
    def worker_name(self) -> str:
        """The name of its worker as noted."""
        return self._text(TrialKey.WORKER) or ""

    @property
    def retries(self) -> int:
        """How often it was requeued after its worker died, since it was queued or a user retried it."""
        found = self._value(TrialKey.RETRIES)
        return found if has_form(found, (int,)) and found > 0 else 0

    @property
    def promoted(self) -> int:
        """The epoch at which the pruner `rungs` had stopped it before it let it go on; 0 if it has not."""
        found = self._value(TrialKey.PROMOTED)
        return found if has_form(found, (int,)) else 0

    @property
    def is_stopped(self) -> bool:
        """Whether a user has ended its cell, and its worker is to end it, or whoever finds it waiting."""
        return self._value(TrialKey.STOPPED) is True

    @property
    def was_put_back(self) -> bool:
        """Whether a worker has had it before and put it back."""
        return self._value(TrialKey.PUT_BACK) is True

    @property
    def alone(self) -> bool:
        """Whether it ran out of memory on a shared GPU, and is to be retried with a GPU to itself."""
        return self._value(TrialKey.ALONE) is True

    @property
    def earlier_error(self) -> str:
        """Why an earlier attempt failed."""
        return self._text(TrialKey.EARLIER_ERROR) or ""

    @property
    def enqueued(self) -> dict[str, Any] | None:
        """The point that a draft is to try."""
        return self._mapping(TrialKey.ENQUEUED)

    @property
    def outcome(self) -> str:
        """How it ended; empty if it has not."""
        return self._text(TrialKey.OUTCOME) or ""

    @property
    def error(self) -> str | None:
        """The error that it raised."""
        return self._text(TrialKey.ERROR)

    @property
    def has_failed(self) -> bool:
        """Whether it has failed for good: it raised, or its worker died too often. A later trial may retry its cell."""
        told = self.outcome == Outcome.FAILED or TrialKey.GIVEN_UP in self
        return self.trial.state is TrialState.FAIL and told

    @property
    def failure(self) -> str:
        """Why it failed."""
        return self.error or _DIED

    @property
    def is_void(self) -> bool:
        """Whether it was given up before training, and counts for nothing."""
        return TrialKey.VOID in self

    @property
    def best_value(self) -> float | None:
        """Its best value of the monitored metric, which need not be the first objective."""
        found = self._value(TrialKey.BEST_VALUE)
        if has_form(found, (int, float)):
            return float(found)
        return self.trial.values[0] if self.trial.values else None

    @property
    def params(self) -> int | None:
        """Number of its model's parameters."""
        found = self._value(TrialKey.PARAMS)
        return int(found) if has_form(found, (int, float)) else None

    def kept(self, *, anew: bool = False) -> dict[str, Any]:
        """Return what a requeued trial takes along: what it is about and, unless it starts `anew`, its history."""
        return self._values(_KEPT_CELL if anew else _KEPT)

    def _values(self, keys: Iterable[str]) -> dict[str, Any]:
        return {key: value for key in keys if (value := self._value(key)) is not None}

    def _value(self, key: str) -> Any:
        old = self._attributes.get(key) if self._is_old else None
        return self._attributes.get(noted(key), old)

    def _text(self, key: str) -> str | None:
        found = self._value(key)
        return found if isinstance(found, str) else None

    def _mapping(self, key: str) -> dict[str, Any] | None:
        found = self._value(key)
        return found if isinstance(found, dict) else None


def newest_of(records: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    """Return each cell's newest trial by cell hash; of a search each draft's, without those that are void.

    Args:
        records: of a study's own trials, by number.
    """
    return {record.cell: record for record in records if not record.is_void}
