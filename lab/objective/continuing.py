"""Continues a trial from its newest intact checkpoint, and logs what its run may lack of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.tracking import Run, Tracker
from lab.tracking.checkpoints import TrialCheckpoints
from lab.tracking.tags import Tag
from lab.training import EpochResult, Trainer

__all__ = ["MOST_CHARACTERS", "Points", "catch_up", "resume"]

MOST_CHARACTERS = 1000  # in a tag that gives a reason
_RESTARTED = (Tag.RESTARTED, "from the first epoch")


@dataclass
class Points:
    """Logs the curves of a run, and knows which of them it had when it was opened.

    A continued trial logs some points again: the run keeps those that it has (see `lab.tracking.known`).
    """

    run: Run
    tracker: Tracker
    fresh: bool
    _logged: dict[str, frozenset[int]] = field(
        default_factory=dict
    )  # steps by metric, when the run was opened

    def log(self, *histories: Mapping[int, Mapping[str, float]]) -> None:
        """Log `histories`, metrics by step, in one request."""
        points: dict[int, dict[str, float]] = {}
        for history in histories:
            for step, metrics in history.items():
                points.setdefault(step, {}).update(metrics)
        self.run.log_history(points)

    def steps(self, metric: str) -> frozenset[int]:
        """Return the steps for which the run had a value of `metric` when it was opened."""
        # the loss is logged first: a run without it has no curves at all
        if self.fresh or (metric != "train_loss" and not self.steps("train_loss")):
            return frozenset()
        if metric not in self._logged:
            self._logged[metric] = frozenset(self.tracker.history(self.run.run_id, metric))
        return self._logged[metric]


def resume(
    trainer: Trainer,
    run: Run,
    checkpoints: TrialCheckpoints,
    points: Points,
    should_stop: Callable[[], bool],
) -> Trainer:
    """Return a trainer at the newest intact checkpoint, or at the first epoch if there is none.

    If that is not the last checkpoint written, a tag on the run says where it continues and why.
    """
    problems: list[str] = []
    for state in checkpoints.load(problems.append):
        try:
            trainer.load_state_dict(state)
        except Exception as error:  # noqa: BLE001  # torch raises anything for a broken state
            problems.append(str(error) or type(error).__name__)
            trainer = Trainer(
                trainer.config, trainer.dataset, should_stop
            )  # the old one may have loaded half of it
        else:
            break
    if not trainer.place and not problems and points.steps("train_loss"):
        problems.append("there is no checkpoint on this machine or in the run's artifacts")
    if problems:
        reason = "; ".join(problems)
        tag, place = (Tag.CONTINUED, trainer.place) if trainer.place else _RESTARTED
        run.set_tags({tag: f"{place}: {reason}"[:MOST_CHARACTERS]})
    return trainer


def catch_up(trainer: Trainer, points: Points) -> EpochResult:
    """Log what the checkpoint has and the run lacks; return its last epoch, which may not have been reported yet."""
    points.log(dict(enumerate(trainer.history, start=1)), trainer.step_history)
    improved = trainer.patience.best_epoch == trainer.epoch
    return EpochResult(trainer.epoch, trainer.history[-1], improved)
