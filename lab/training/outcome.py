"""How a trial ended."""

from __future__ import annotations

import math
from enum import StrEnum

__all__ = ["Interrupted", "Outcome", "at_chance"]


class Outcome(StrEnum):
    """How a trial ended, as in its run's tag; `meaning` says it in words, with names as in Markdown."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Outcome:
        """Return the member whose value is `value`."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    COMPLETED = "completed", "All epochs were trained."
    EARLY_STOPPED = "early_stopped", "`patience` epochs in a row brought no improvement."
    NOT_CONVERGED = (
        "not_converged",
        "It never did better than always predicting the most common class, allowing three standard errors.",
    )
    DIVERGED = (
        "diverged",
        "The loss was NaN or infinite, or exploded (to ten times that of the first step) and the net learnt nothing; "
        "`diverged_step` is the step.",
    )
    PRUNED = (
        "pruned",
        "A pruner or `lab stop` ended it early; its best weights are kept, but not tested: `lab errors RUN` does that.",
    )
    FAILED = "failed", "It raised an exception; `traceback.txt` has it."
    KILLED = "killed", "It was asked to stop; it continues from its checkpoint."


class Interrupted(Exception):  # noqa: N818  # not an error: the trial was asked to stop and can continue
    """The trial was asked to stop; it continues from its last checkpoint."""

    def __init__(self) -> None:
        super().__init__("the trial was asked to stop")


def at_chance(accuracy: float, majority: float, images: int) -> bool:
    """Return whether `accuracy` is no better than always predicting the most common class.

    A perfect one is better, however few images it was measured on.

    Args:
        accuracy: share of correct predictions.
        majority: share of the most common class among the images.
        images: number of images that the accuracy was measured on, which gives a margin of three standard errors.
    """
    margin = 3 * math.sqrt(majority * (1 - majority) / images)
    return accuracy <= majority or (accuracy < 1 and accuracy <= majority + margin)
