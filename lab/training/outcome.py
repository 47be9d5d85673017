"""How a trial ended."""

from __future__ import annotations

import math
from enum import StrEnum

__all__ = ["Interrupted", "Outcome", "at_chance"]


class Outcome(StrEnum):
    """How a trial ended; a tag on its run."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    NOT_CONVERGED = "not_converged"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"
    KILLED = "killed"


class Interrupted(Exception):  # noqa: N818  # nothing went wrong: the trial was asked to stop and can continue
    """The trial was asked to stop; its last checkpoint continues it."""

    def __init__(self) -> None:
        super().__init__("the trial was asked to stop")


def at_chance(accuracy: float, majority: float, images: int) -> bool:
    """Return whether `accuracy` is no better than always answering the commonest class.

    Args:
        accuracy: share of right answers.
        majority: share of the commonest class among the images.
        images: how many images the accuracy was measured on; three standard errors are allowed for.
    """
    return accuracy <= majority + 3 * math.sqrt(majority * (1 - majority) / images)
