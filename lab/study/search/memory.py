"""What a worker of a search remembers of its trials between two claims, so that each claim reads only what is new."""

from __future__ import annotations

from collections import defaultdict

from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState

from lab.config import Grid
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord

__all__ = ["SearchMemory"]


class SearchMemory(_CachedStorage):
    """Optuna's cache of finished trials, for samplers and pruners, without those that nobody has begun.

    Optuna's own reads all that have not ended at each look: a search has thousands of drafts that wait, from which no
    sampler learns.

    Args:
        queue: of the search's study.
        grid: its grid file.
    """

    def __init__(self, queue: TrialQueue, grid: Grid) -> None:
        super().__init__(queue.storage)
        self._queue = queue
        self._grid = grid
        self._floor = 0  # id of a trial: all up to it have ended, and are known
        self._ended: set[int] = set()  # ids of those after it that have ended, and are known
        self._under_way: list[int] = []  # numbers of those that had begun at the last look, and not ended
        self._epochs: dict[str, int] = {}  # most that a trial of each draft has trained
        self._best: float | None = None  # first objective, the higher the better
        self._newest = 0  # id of the last trial whose draft is known
        self._drafts: defaultdict[str, list[int]] = defaultdict(list)  # ids of the trials of each draft

    def look(self) -> None:
        """Read what has changed since the last look: trials that have begun, gone on or ended."""
        self._read_trials_from_remote_storage(self._queue.study_id)

    def may_be_exhausted(self) -> bool:
        """Return whether the search may have reached its target or its budget of epochs.

        If so, look at the trials themselves: one that is to be trained anew counts here, and not there.
        """
        search, epochs = self._grid.search, self._grid.budget.epochs
        if search is None or (search.target is None and epochs is None):
            return False
        self.look()
        if epochs is not None and sum(self._epochs.values()) >= epochs:
            return True
        return (
            search.target is not None and self._best is not None and self._best >= self._sign * search.target
        )

    def is_surplus(self, record: TrialRecord) -> bool:
        """Return whether a claimed draft is beyond the budget or a duplicate: two sweeps may have queued it at once.

        Where every point is tried, each has a draft, whose number says nothing; one without a point is beyond them.
        """
        search = self._grid.search
        if search is not None and search.tries_every_point:
            if record.enqueued is None:
                return True
        elif record.draft_number >= (self._grid.budget.trials or 0):
            return True
        for trial_id, cell in self._queue.trials_since(self._newest):
            self._drafts[cell].append(trial_id)
            self._newest = trial_id
        earlier = (trial_id for trial_id in self._drafts[record.cell] if trial_id < record.trial_id)
        return any(map(self._counts, earlier))

    def _counts(self, trial_id: int) -> bool:
        trial = self.get_trial(trial_id)
        return trial.state is not TrialState.FAIL and not TrialRecord(trial).is_void

    @property
    def _sign(self) -> int:
        search = self._grid.search
        return 1 if search is None or search.objectives[0].direction == "maximize" else -1

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        """Do for Optuna's cache what it is for: see Optuna's method."""
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            # first: whatever ends between the two is read again at the next look
            unfinished = self._queue.first_unfinished(self._floor)
            begun = self._queue.begun_since(self._floor, self._ended)
            for number in self._under_way:
                study.trials.pop(number, None)  # it may have been put back
            self._under_way = [trial.number for trial in begun if not trial.state.is_finished()]
            self._add_trials_to_cache(study_id, begun)
            for trial in begun:
                self._learn(trial)
            if unfinished is not None:
                self._floor = unfinished - 1
                self._ended = {trial_id for trial_id in self._ended if trial_id > self._floor}

    def _learn(self, trial: FrozenTrial) -> None:
        record = TrialRecord(trial)
        if trial.state.is_finished():
            self._ended.add(trial._trial_id)
        if not record.is_own:
            return
        self._epochs[record.cell] = max(self._epochs.get(record.cell, 0), len(trial.intermediate_values))
        if trial.state is TrialState.COMPLETE and not record.is_void:
            value = self._sign * trial.values[0]
            self._best = value if self._best is None else max(value, self._best)
