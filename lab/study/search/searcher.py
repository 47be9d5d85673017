"""What a worker does for a search besides training: choosing the point of a slot, pruning, telling the sampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import Trial, TrialState

from lab.config import Dimension, Grid, Point, Search, TrialConfig, parse_grid
from lab.data import describe, settled
from lab.errors import ConfigError, StudyError
from lab.models import summarize_config
from lab.objective import TrialResult
from lab.study.distributions import search_codec
from lab.study.earlier import searched_images
from lab.study.queue import TrialQueue
from lab.study.record import TrialKey, TrialRecord
from lab.study.search.budget import end_if_over, is_superfluous
from lab.study.search.methods import build_pruner, build_sampler
from lab.training import Interrupted

__all__ = ["Searcher", "Searching", "open_searcher"]

_TRIES = 100  # suggestions in a row that may not be trained, before the search is given up
_LEARNING_TRIES = 20  # of them by the sampler, which may be stuck; the others at random


def open_searcher(queue: TrialQueue, should_stop: Callable[[], bool]) -> Searcher | None:
    """Return what searches for the study, None if it is a grid's."""
    saved = queue.record().search
    if not saved:
        return None
    try:
        grid = parse_grid(saved["text"], saved["file"], saved["overrides"])
    except (KeyError, TypeError, AttributeError):
        raise StudyError(
            f"What the study '{queue.name}' searches is of another form than lab writes; submit its grid file again"
        ) from None
    return None if grid.search is None else Searcher(queue, grid, grid.search, should_stop)


class Searching:
    """What searches for a study as its file is now: it can be submitted again while a worker lives.

    Args:
        queue: of the study.
        should_stop: asked before each suggestion.
    """

    def __init__(self, queue: TrialQueue, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._queue = queue
        self._should_stop = should_stop
        self._saved: Any = None
        self._searcher: Searcher | None = None

    def current(self) -> Searcher | None:
        """Return what searches; None if the study is a grid's."""
        saved = self._queue.record().search
        if saved != self._saved:
            self._searcher = open_searcher(self._queue, self._should_stop)
            self._saved = saved
        return self._searcher

    def is_over(self) -> bool:
        """Return whether no trial is to be started any more."""
        searcher = self.current()
        return searcher is not None and searcher.is_over()

    def prepare(self, trial_id: int) -> bool:
        """Choose what to train in a claimed trial that has no config yet, and return whether it may be trained."""
        searcher = self.current()
        if searcher is not None:
            return searcher.prepare(trial_id)
        record = TrialRecord(self._queue.storage.get_trial(trial_id))
        if TrialKey.CONFIG not in record:
            self._queue.void(record, "the study is no search any more")
            return False
        return True


class Searcher:
    """Searches in one worker.

    Args:
        queue: of the study.
        grid: its file.
        search: of the file.
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
        self._storage = optuna.storages.get_storage(queue.storage)  # Optuna's cache of finished trials
        self._in_vain = 0  # suggestions in a row that may not be trained

    def is_over(self) -> bool:
        """Return whether no trial is to be started any more."""
        return end_if_over(self._grid, self._queue)

    def prepare(self, trial_id: int) -> bool:
        """Choose what to train in a claimed slot, and return whether it may be.

        A trial that has its config already, because its worker died or was stopped, keeps it.

        Raises:
            StudyError: the sampler cannot go on, or finds nothing that may be trained.
            Interrupted: the worker was asked to stop; the trial was put back.
        """
        try:
            return self._prepare(trial_id)
        except BaseException:
            with suppress(UpdateFinishedTrialError):  # it was void
                self._queue.put_back(trial_id)
            raise

    def prunes(self, trial_id: int) -> bool:
        """Return whether a trial is to be ended after what it has reported."""
        if self._search.pruner.name == "none":
            return False
        study = self._study(RandomSampler())  # pruners look at trials alone
        return self._pruner.prune(study, self._queue.storage.get_trial(trial_id))

    def finish(self, trial_id: int, result: TrialResult, *, pruned: bool) -> list[float]:
        """Tell the sampler how a trial ended; return its values."""
        trial = self._queue.storage.get_trial(trial_id)
        if pruned:
            values = [trial.intermediate_values[max(trial.intermediate_values)]]  # as Optuna has it
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
        frozen = self._queue.storage.get_trial(trial_id)
        record = TrialRecord(frozen)
        if record.config is not None:
            if not frozen.constraints:
                begun = TrialConfig(**record.config)
                self._note_constraints(Trial(self._study(RandomSampler()), trial_id), begun)
            return True
        if is_superfluous(record, self._queue, self._grid.budget.trials or 0):
            self._queue.void(record, "a slot too many")
            return False
        trial, point, reason = self._suggest(trial_id, record)
        config: TrialConfig | None = None
        if point is not None:
            try:
                config = settled(self._grid.config(point))
                reason = self._grid.excluded(point) or self._note_constraints(trial, config) or ""
            except ConfigError as error:
                reason = str(error)
        if point is None or config is None or reason:
            self._reject(trial, trial_id, reason)
            return False
        self._in_vain = 0
        self._queue.describe(trial_id, searched_images(self._queue, config), self._grid.label(point))
        return True

    def _suggest(self, trial_id: int, record: TrialRecord) -> tuple[Trial, Point | None, str]:
        """Return the trial with all its parameters, and the point they are; None and why if they are none."""
        stuck = self._in_vain >= _LEARNING_TRIES
        sampler = RandomSampler() if stuck else build_sampler(self._search.sampler, record.number)
        fixed = record.enqueued
        if fixed:
            sampler = _fixing(fixed, sampler)
        gone = ""

        def choose(dimension: Dimension) -> Any:
            nonlocal gone
            self._queue.beat(trial_id)
            param = self._codec.suggest(trial, dimension.name)
            try:
                return self._codec.decode_value(dimension.name, param)
            except ValueError:  # of an earlier file
                gone = f"{dimension.name}={param} is not in the file any more"
                return dimension.candidates[0]

        try:
            trial = Trial(self._study(sampler), trial_id)
            point = self._grid.space.build(choose)
        except Exception as error:
            name = self._search.sampler.name
            raise StudyError(f"The sampler {name} cannot go on: {type(error).__name__}: {error}") from error
        return trial, None if gone else point, gone

    def _note_constraints(self, trial: Trial, config: TrialConfig) -> str | None:
        """Tell the sampler how far `config` keeps or breaks each constraint; return which one it breaks."""
        info = describe(config)
        summary = summarize_config(config, info.shape, len(info.classes))
        facts = {**config.model_dump(), **summary.facts()}
        for constraint in self._grid.constraints:
            trial.set_constraint(str(constraint), constraint.excess(facts))
        return next(filter(None, (constraint.violated(facts) for constraint in self._grid.constraints)), None)

    def _reject(self, trial: Trial, trial_id: int, reason: str) -> None:
        """Void the trial, so that its sampler knows that the point may not be trained, and queue another slot."""
        frozen = self._queue.storage.get_trial(trial_id)
        if not any(value > 0 for value in frozen.constraints.values()):
            trial.set_constraint("valid", 1.0)
        self._in_vain += 1
        record = TrialRecord(frozen)
        fixed = record.enqueued or {}
        again = (
            {TrialKey.ENQUEUED: fixed} if frozen.params.keys() - fixed.keys() else {}
        )  # the rest may be at fault
        # void before its slot is there again, or that would be one too many; ended after it, or the study would
        # look done in between
        self._queue.note_trial(trial_id, TrialKey.VOID, reason[:1000])
        if not self._search.tries_every_point:  # of these, one that may not be trained has no substitute
            self._queue.draft(record.cell, **again)
        self._queue.void(record, reason)
        if self._in_vain >= _TRIES:
            self._in_vain = 0
            raise StudyError(
                f"{_TRIES} suggestions in a row may not be trained, the last one as {reason}. "
                "Loosen `constraints` or `exclude`, or narrow the space"
            )

    def _study(self, sampler: BaseSampler) -> optuna.Study:
        """Return the study as it is now, with the sampler of one trial.

        A `Study` that does not hand out trials itself keeps showing samplers those it saw first: each has its own.
        """
        study = optuna.load_study(
            study_name=self._queue.name, storage=self._storage, sampler=sampler, pruner=self._pruner
        )
        study.get_trials(deepcopy=False)  # the cache must know a trial before its parameters can be set
        return study


def _fixing(fixed: Mapping[str, Any], sampler: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since Optuna 2.4
        return PartialFixedSampler(dict(fixed), sampler)


def _value(metric: str, direction: str, result: TrialResult) -> float:
    """Return an objective of a finished trial; the worst there is where it has none."""
    if metric == result.config.monitor:
        return result.value
    epoch: Mapping[str, float] = result.history[result.best_epoch - 1] if result.best_epoch else {}
    value = float({**epoch, **result.summary.facts(), **result.metrics()}.get(metric, math.nan))
    worst = -math.inf if direction == "maximize" else math.inf
    return worst if math.isnan(value) else value
