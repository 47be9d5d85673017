"""Optimizer steps from several batches: which batches belong together, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["WHOLE", "Part", "count_steps", "parts"]


@dataclass(frozen=True)
class Part:
    """A batch's part in an optimizer step: whether it is the step's first or last, and its share of the images."""

    first: bool
    last: bool
    share: float


WHOLE = Part(first=True, last=True, share=1.0)


def parts(sizes: Sequence[int], accumulate: int) -> list[Part]:
    """Return the part of each batch if `accumulate` in a row make a step; the last step may have fewer.

    The shares make a step's gradient the mean over its images, as if they were one batch.

    Args:
        sizes: images of each batch.
        accumulate: batches of an optimizer step.
    """
    if accumulate == 1:
        return [WHOLE] * len(sizes)
    found = []
    for start in range(0, len(sizes), accumulate):
        together = sizes[start : start + accumulate]
        images, last = sum(together), len(together) - 1
        found += [Part(at == 0, at == last, size / images) for at, size in enumerate(together)]
    return found


def count_steps(batches: int, accumulate: int) -> int:
    """Return how many optimizer steps this many batches make."""
    return -(-batches // accumulate)
