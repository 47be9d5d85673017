"""The pruner `rungs`: every trial stops after a few epochs, and the best of them go on from their checkpoints later."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lab.study.record import TrialRecord

__all__ = ["RungsPruner"]


class RungsPruner(BasePruner):
    """Successive halving whose trials pause: a trial is pruned at each rung, and requeued if it turns out to be good.

    The rungs are the epochs `min_resource`, times `reduction_factor`, times it again, and so on. While other trials
    wait, a trial that arrives at a rung is pruned. Once none waits, the best 1/`reduction_factor` of those that have
    arrived are promoted: they continue, the same run from its last checkpoint, to the next rung. So no epoch is trained
    twice, no worker waits for a rung to fill, and at any time all that were not promoted have ended as pruned trials.

    After Jamieson and Talwalkar (2016), arXiv:1502.07943, and Li et al. (2020), arXiv:1810.05934, whose asynchronous
    version promotes before it knows the whole rung.

    Args:
        min_resource: the epoch of the first rung.
        reduction_factor: of how many trials one is promoted.

    Raises:
        ValueError: one of them is too small.
    """

    def __init__(self, min_resource: int = 1, reduction_factor: int = 3) -> None:
        if min_resource < 1:
            raise ValueError(f"min_resource must be at least 1, but got {min_resource}")
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2, but got {reduction_factor}")
        self._first = min_resource
        self._factor = reduction_factor

    def is_at_rung(self, trial: FrozenTrial) -> bool:
        """Return whether a trial has arrived at a rung, where it stops while other trials wait."""
        record = TrialRecord(trial)
        return self._is_rung(record.epoch) and record.epoch > record.promoted

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether a trial stops while no other trial waits: at each rung, unless it is among the best."""
        if not self.is_at_rung(trial):
            return False
        record = TrialRecord(trial)
        records = [found for each in study.get_trials(deepcopy=False) if (found := TrialRecord(each)).is_own]
        newest = {other.cell: other for other in records if not other.is_void}
        maximize = study.direction is StudyDirection.MAXIMIZE
        return trial.number not in {one.number for one in self._best(newest.values(), record.epoch, maximize)}

    def promotable(self, newest: Collection[TrialRecord], *, maximize: bool) -> list[TrialRecord]:
        """Return the pruned trials that are among the best at the rung where they stopped.

        Args:
            newest: the newest trial of each cell.
            maximize: whether higher values are better.
        """
        paused = [record for record in newest if _is_paused(record) and self._is_rung(record.epoch)]
        best = {
            rung: {record.number for record in self._best(newest, rung, maximize)}
            for rung in {record.epoch for record in paused}
        }
        return [record for record in paused if record.number in best[record.epoch]]

    def _best(self, newest: Iterable[TrialRecord], rung: int, maximize: bool) -> list[TrialRecord]:
        """Return the trials to promote of those that have arrived at `rung`, or ended before it."""
        arrived = [(value, one) for one in newest if (value := _value(one, rung, maximize)) is not None]
        arrived.sort(key=lambda pair: pair[0], reverse=maximize)
        return [one for _, one in arrived[: max(1, len(arrived) // self._factor)]]

    def _is_rung(self, epoch: int) -> bool:
        while epoch > self._first and epoch % self._factor == 0:
            epoch //= self._factor
        return epoch == self._first


def _is_paused(record: TrialRecord) -> bool:
    return record.trial.state is TrialState.PRUNED and not record.is_stopped


def _value(record: TrialRecord, rung: int, maximize: bool) -> float | None:
    """Return a trial's best value up to the epoch `rung`; None if it has failed, or has yet to arrive there."""
    state = record.trial.state
    if state is TrialState.FAIL or (state is not TrialState.COMPLETE and record.epoch < rung):
        return None
    return record.best_until(rung, maximize=maximize)
