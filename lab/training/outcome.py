"""How a trial ended."""

from __future__ import annotations

import math
from enum import StrEnum

__all__ = ["Interrupted", "Outcome", "at_chance"]


class Outcome(StrEnum):
    """How a trial ended, as in its run's tag."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    NOT_CONVERGED = "not_converged"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"
    KILLED = "killed"


class Interrupted(Exception):  # noqa: N818  # not an error: the trial was asked to stop and can continue
    """The trial was asked to stop; it continues from its last checkpoint."""

    def __init__(self) -> None:
        super().__init__("the trial was asked to stop")


def at_chance(accuracy: float, majority: float, images: int) -> bool:
    """Return whether `accuracy` is no better than always predicting the most common class.

    Args:
        accuracy: share of correct predictions.
        majority: share of the most common class among the images.
        images: number of images that the accuracy was measured on, which gives a margin of three standard errors.
    """
    return accuracy <= majority + 3 * math.sqrt(majority * (1 - majority) / images)
