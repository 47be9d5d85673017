"""The learning-rate range test: the loss while the rate rises from tiny to far too large, and what that suggests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.training.loop import Trainer

__all__ = ["LrCurve", "RatePoint", "range_test", "rates"]

_MEMORY = 0.9  # weight of the past in the running mean that tells whether the loss has diverged
_DIVERGED = 4.0  # times the lowest running mean
_WINDOW = 0.1  # width of the smoothing, as a share of the steps of the whole test


@dataclass(frozen=True)
class RatePoint:
    """One optimizer step of the test: its number from 1, its learning rate, and its mean loss before the step."""

    step: int
    lr: float
    loss: float


@dataclass(frozen=True)
class LrCurve:
    """What a range test has measured: its points so far, and how many steps were planned."""

    points: tuple[RatePoint, ...]
    planned: int

    @property
    def smoothed(self) -> list[float]:
        """The loss of each point, averaged over its neighbours on both sides, so that the curve is not shifted."""
        if not self.points:
            return []
        losses = np.array([point.loss for point in self.points])
        half = max(1, round(self.planned * _WINDOW / 2))
        weights = np.bartlett(2 * half + 3)[1:-1]  # a triangle
        sums = np.convolve(losses, weights)[half : half + len(losses)]
        shares = np.convolve(np.ones_like(losses), weights)[half : half + len(losses)]
        smoothed: list[float] = (sums / shares).tolist()
        return smoothed

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply on its way to the minimum; None if it never falls."""
        if len(self.points) < 3:
            return None
        rates = np.log10([point.lr for point in self.points])
        losses: NDArray[np.float64] = np.array(self.smoothed)
        slopes = np.gradient(losses, rates)[: int(losses.argmin()) + 1]
        steepest = int(slopes.argmin())
        return self.points[steepest].lr if slopes[steepest] < 0 else None


def rates(lowest: float, highest: float, steps: int) -> Sequence[float]:
    """Return the learning rate of each step, rising by the same factor at each."""
    found: list[float] = np.geomspace(lowest, highest, steps).tolist()
    return found


def range_test(trainer: Trainer, *, lowest: float, highest: float, steps: int) -> Iterator[RatePoint]:
    """Train with a learning rate that rises exponentially, and yield each step, until the loss diverges.

    Smith 2017, arXiv:1506.01186; with an exponential rise, as usual since. It has diverged once it is not finite, or
    its running mean is four times as high as the lowest before.

    Args:
        trainer: fresh; it cannot be trained or continued afterwards.
        lowest: rate of the first step.
        highest: rate of the last step.
        steps: number of optimizer steps.

    Raises:
        Interrupted: the trainer's `should_stop` returned True.
    """
    losses = trainer.optimizer_steps()
    mean, best = 0.0, math.inf
    for step, lr in enumerate(rates(lowest, highest, steps), start=1):
        trainer.use_lr(lr)
        loss = next(losses)
        if not math.isfinite(loss):
            return
        yield RatePoint(step, lr, loss)
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        unbiased = mean / (1 - _MEMORY**step)
        if unbiased > _DIVERGED * best:
            return
        best = min(best, unbiased)
