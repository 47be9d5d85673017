"""What a worker does for a search besides training: it chooses points, prunes trials and tells the sampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import Trial, TrialState

from lab.config import Dimension, Grid, Point, Search, TrialConfig, parse_grid
from lab.data import describe, settled
from lab.errors import ConfigError, StudyError
from lab.models import summarize_config
from lab.objective import TrialResult
from lab.study.distributions import accept_search, search_codec
from lab.study.earlier import searched_files
from lab.study.keys import TrialKey
from lab.study.pulse import Pulse
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord
from lab.study.search.budget import note_if_exhausted, promote
from lab.study.search.memory import SearchMemory
from lab.study.search.methods import build_pruner, build_sampler
from lab.study.search.rungs import RungsPruner
from lab.study.search.surrogate import next_point
from lab.training import Interrupted

__all__ = ["Searcher", "StudySearch", "open_searcher"]

_TRIES = 100  # suggestions in a row that may not be trained, after which the search is given up
_LEARNING_TRIES = 20  # of these, how many the sampler makes, which may be stuck; the others are random


def open_searcher(queue: TrialQueue, should_stop: Callable[[], bool]) -> Searcher | None:
    """Return the searcher of a study, or None if the study is a grid's.

    Raises:
        StudyError: the search is not stored in the form that lab writes.
    """
    saved = queue.search()
    if not saved:
        return None
    try:
        grid = parse_grid(saved["text"], saved["file"], saved["overrides"])
    except (KeyError, TypeError, AttributeError):
        raise StudyError(
            f"The search of the study '{queue.name}' is not stored in the form that lab writes; "
            "submit its grid file again"
        ) from None
    return None if grid.search is None else Searcher(queue, grid, grid.search, should_stop)


class StudySearch:
    """The search of a study, if it has one, as its current grid file describes it.

    The file can be submitted again, with or without a search, while a worker is running.

    Args:
        queue: of the study.
        should_stop: asked before each suggestion.
    """

    def __init__(self, queue: TrialQueue, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._queue = queue
        self._should_stop = should_stop
        self._saved: Any = None
        self._searcher: Searcher | None = None

    def searcher(self) -> Searcher | None:
        """Return the current searcher; None if the study is a grid's."""
        saved = self._queue.search()
        if saved != self._saved:
            self._searcher = open_searcher(self._queue, self._should_stop)
            self._saved = saved
        return self._searcher

    def is_exhausted(self) -> bool:
        """Return whether the study is a search that starts no new trials."""
        searcher = self.searcher()
        return searcher is not None and searcher.is_exhausted()

    def promote(self) -> bool:
        """Requeue the pruned trials of a search that go on; return whether there are any."""
        searcher = self.searcher()
        return searcher is not None and searcher.promote()

    def prepare(self, trial_id: int) -> bool:
        """Choose what to train in a claimed draft, and return whether a claimed trial may be trained."""
        searcher = self.searcher()
        if searcher is not None:
            return searcher.prepare(trial_id, lambda: self._queue.search() == self._saved)
        record = TrialRecord(self._queue.storage.get_trial(trial_id))
        if record.is_draft:
            self._queue.void(record, "the study no longer has a search")
            return False
        return True


@dataclass(frozen=True)
class _Suggestion:
    """What the sampler suggests for a draft: a trial with all its params, and the point that they represent."""

    trial: Trial
    point: Point
    outdated: str = ""  # the param that an earlier version of the file allowed, and this one does not


class Searcher:
    """Searches in one worker.

    Args:
        queue: of the study.
        grid: its grid file.
        search: the search of this file.
        should_stop: asked before each suggestion.
    """

    def __init__(
        self, queue: TrialQueue, grid: Grid, search: Search, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._should_stop = should_stop
        self._queue = queue
        self._grid = grid
        self._search = search
        self._pruner = build_pruner(search.pruner)
        self._codec = search_codec(grid.space, queue)
        self._memory = SearchMemory(queue, grid)
        self._in_vain = 0  # suggestions in a row that may not be trained

    @property
    def has_several_objectives(self) -> bool:
        """Whether there are; then Optuna has no pruned trials, and one that a user has ended is complete."""
        return len(self._search.objectives) > 1

    @property
    def _maximizes(self) -> bool:
        return self._search.objectives[0].direction == "maximize"

    def is_exhausted(self) -> bool:
        """Return whether no new trials start; if so, note it in the study."""
        return self._memory.may_be_exhausted() and note_if_exhausted(self._grid, self._queue)

    def prepare(self, trial_id: int, is_current: Callable[[], bool] = lambda: True) -> bool:
        """Choose what to train in a claimed draft, and return whether it may be trained.

        A trial that already has its config, because its worker died or was stopped, keeps it.

        Args:
            trial_id: of the draft.
            is_current: asked after the choice: whether the study still has the file that this was made from.

        Raises:
            StudyError: the sampler fails, or suggests nothing that may be trained.
            Interrupted: the worker was asked to stop; the trial is back in the queue.
        """
        try:
            with Pulse(self._queue, trial_id):  # a sampler may take longer than a worker may be silent
                may_train = self._prepare(trial_id)
                if not is_current():
                    self._catch_up()
                return may_train
        except BaseException:
            with suppress(UpdateFinishedTrialError):  # it is void
                self._queue.put_back(trial_id)
            raise

    def prunes(self, trial_id: int) -> bool:
        """Return whether the pruner stops a trial, given what it has reported so far."""
        if self._search.pruner.name == "none":
            return False
        trial = self._queue.storage.get_trial(trial_id)
        if isinstance(self._pruner, RungsPruner) and self._queue.waits():
            return self._pruner.is_at_rung(trial)
        return self._pruner.prune(self._study(RandomSampler()), trial)  # pruners only look at trials

    def promote(self) -> bool:
        """Requeue the pruned trials that go on, once nothing else waits; return whether there are any."""
        if not isinstance(self._pruner, RungsPruner) or self._queue.waits():
            return False

        def locked() -> int:
            with self._queue.locked():
                return promote(self._search, self._queue)

        return self._queue.storage.patiently(locked) > 0

    def finish(self, trial_id: int, result: TrialResult, *, pruned: bool) -> list[float]:
        """Tell the sampler how a trial ended, and return its values."""
        self.promote()  # before the trial ends, or the study would seem to be over in between
        trial = self._queue.storage.get_trial(trial_id)
        if pruned:
            last = TrialRecord(
                trial
            ).last_value  # Optuna's choice; none if a user has ended it before its first
            values = [result.value if last is None else last]
        else:
            values = [
                _value(objective.metric, objective.direction, result) for objective in self._search.objectives
            ]
        sampler = build_sampler(self._search.sampler, trial.number)
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        sampler.after_trial(self._study(sampler), trial, state, values)
        return values

    def _prepare(self, trial_id: int) -> bool:
        if self._should_stop() or self._queue.is_cancelled():
            raise Interrupted
        record = TrialRecord(self._queue.storage.get_trial(trial_id))
        if record.config is not None:
            if not record.trial.constraints:
                chosen = Trial(self._study(RandomSampler()), trial_id)
                self._note_constraints(chosen, TrialConfig(**record.config))
            return True
        if self._memory.is_surplus(record):
            self._queue.void(record, "a surplus draft")
            return False
        if self._search.is_automatic and record.enqueued is None:
            if not self._aim(record):
                self._queue.void(record, "every point of the space was tried")
                return False
            record = TrialRecord(self._queue.storage.get_trial(trial_id))
        return self._choose(trial_id, record)

    def _catch_up(self) -> None:
        """Make what was chosen fit a file that has been submitted meanwhile, and may have gained choices."""

        def widen() -> None:
            with self._queue.locked():
                accept_search(self._grid.space, self._queue)

        self._queue.storage.patiently(widen)

    def _aim(self, record: TrialRecord) -> bool:
        """Note in a draft the most promising point, as the one to try; return False if none is left."""
        seed = self._search.sampler.options.get("seed")
        rng = np.random.default_rng(None if seed is None else [abs(seed), record.number])

        def aim() -> bool:
            with self._queue.locked():  # or two workers would choose the same
                self._memory.look()
                trials = self._memory.get_all_trials(self._queue.study_id, deepcopy=False)
                records = [found for trial in trials if (found := TrialRecord(trial)).is_own]
                point = next_point(self._grid.space, self._codec, records, rng, maximize=self._maximizes)
                if point is not None:
                    self._queue.note_trial(record.trial_id, TrialKey.ENQUEUED, point)
            return point is not None

        return self._queue.storage.patiently(aim)

    def _choose(self, trial_id: int, record: TrialRecord) -> bool:
        """Choose the config of a draft, and return whether it may be trained."""
        suggestion = self._suggest(trial_id, record)
        try:
            config, reason = self._config(suggestion)
        except ConfigError as error:
            config, reason = None, str(error)
        if config is None or reason:
            self._reject(suggestion.trial, trial_id, reason)
            return False
        self._in_vain = 0
        label = self._grid.label(suggestion.point)
        self._queue.describe(trial_id, searched_files(self._queue, config), label)
        return True

    def _config(self, suggestion: _Suggestion) -> tuple[TrialConfig | None, str]:
        """Return the config of a suggestion, and why it may not be trained, if so.

        Raises:
            ConfigError: it is not a valid configuration.
        """
        if suggestion.outdated:
            return None, f"{suggestion.outdated} is no longer in the file"
        config = settled(self._grid.config(suggestion.point))
        excluded = self._grid.excluded(suggestion.point)
        return config, excluded or self._note_constraints(suggestion.trial, config) or ""

    def _suggest(self, trial_id: int, record: TrialRecord) -> _Suggestion:
        """Return what the sampler suggests for a draft.

        Raises:
            StudyError: the sampler or the database fails.
        """
        sampler = self._sampler(record)
        outdated = ""

        def choose(dimension: Dimension) -> Any:
            nonlocal outdated
            param = self._codec.suggest(trial, dimension.name)
            try:
                return self._codec.decode_value(dimension.name, param)
            except ValueError:  # a choice of an earlier version of the file
                outdated = f"{dimension.name}={param}"
                return dimension.candidates[0]

        try:
            trial = Trial(self._study(sampler), trial_id)
            point = self._grid.space.build(choose)
        except StudyError:  # of the database
            raise
        except Exception as error:
            name = self._search.sampler.name
            raise StudyError(f"The sampler {name} failed: {type(error).__name__}: {error}") from error
        return _Suggestion(trial, point, outdated)

    def _sampler(self, record: TrialRecord) -> BaseSampler:
        """Return the sampler of a draft, which leaves the params of an enqueued point as they are."""
        if self._in_vain >= _LEARNING_TRIES:
            sampler: BaseSampler = RandomSampler()
        else:
            sampler = build_sampler(self._search.sampler, record.number)
        return _fixing(record.enqueued, sampler) if record.enqueued else sampler

    def _note_constraints(self, trial: Trial, config: TrialConfig) -> str | None:
        """Tell the sampler by how much `config` meets or violates each constraint; return the first violation."""
        info = describe(config)
        summary = summarize_config(config, info.shape, len(info.classes))
        facts = {**config.model_dump(), **summary.facts()}
        for constraint in self._grid.constraints:
            trial.set_constraint(str(constraint), constraint.excess(facts))
        return next(filter(None, (constraint.violated(facts) for constraint in self._grid.constraints)), None)

    def _reject(self, trial: Trial, trial_id: int, reason: str) -> None:
        """Void a trial, so that the sampler learns that the point may not be trained, and queue another draft."""
        frozen = self._queue.storage.get_trial(trial_id)
        if not any(value > 0 for value in frozen.constraints.values()):
            trial.set_constraint("valid", 1.0)
        self._in_vain += 1
        record = TrialRecord(frozen)
        fixed = record.enqueued or {}
        is_chosen = bool(frozen.params.keys() - fixed.keys())  # the fault may lie in what the sampler chose
        again = {TrialKey.ENQUEUED: fixed} if is_chosen else {}
        # void before the new draft exists, or there would be a surplus; finished after that, or the study would seem
        # to be over in between
        self._queue.note_trial(trial_id, TrialKey.VOID, reason[:1000])
        if not self._search.tries_every_point:  # these have no replacement for a point
            self._queue.draft(record.cell, **again)
        self._queue.void(record, reason)
        if self._in_vain >= _TRIES:
            self._in_vain = 0
            raise StudyError(
                f"{_TRIES} suggestions in a row were not valid, most recently because: {reason}. "
                "Relax `constraints` or `exclude`, or narrow the space"
            )

    def _study(self, sampler: BaseSampler) -> optuna.Study:
        """Return the study as it is now, with the sampler of one trial.

        Each call loads it anew: a `Study` that does not create trials itself keeps showing samplers the first it saw.
        """
        study = optuna.load_study(
            study_name=self._queue.name, storage=self._memory, sampler=sampler, pruner=self._pruner
        )
        self._memory.look()  # it must have a trial before the trial's params can be set
        return study


def _fixing(fixed: Mapping[str, Any], sampler: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 2.4
        return PartialFixedSampler(dict(fixed), sampler)


def _value(metric: str, direction: str, result: TrialResult) -> float:
    """Return the value of an objective of a finished trial; the worst possible one if it has none."""
    if metric == result.config.monitor:
        return result.value
    epoch: Mapping[str, float] = result.history[result.best_epoch - 1] if result.best_epoch else {}
    value = float({**epoch, **result.summary.facts(), **result.metrics()}.get(metric, math.nan))
    worst = -math.inf if direction == "maximize" else math.inf
    return worst if math.isnan(value) else value
