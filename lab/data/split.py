"""Stratified, seeded splits."""

from __future__ import annotations

import math

import numpy as np
import torch

from lab.data.base import Split
from lab.errors import DataError
from lab.wording import counted

__all__ = ["hold_out"]


def hold_out(
    split: Split, *, fraction: float, seed: int, classes: tuple[str, ...], field: str
) -> tuple[Split, Split]:
    """Return what remains of `split`, and the held-out `fraction` of it, both in their original order.

    Every class keeps its share in both, to within one image.

    Args:
        split: on the CPU.
        fraction: of the images; rounded up.
        seed: the same seed gives the same split.
        classes: class names, for errors.
        field: the setting that `fraction` comes from, for errors.

    Raises:
        DataError: there are too few images; says what to change.
    """
    from sklearn.model_selection import (
        train_test_split,
    )  # takes half a second, which planning must not wait for

    _check(split, fraction, classes, field)
    rest, held_out = train_test_split(
        np.arange(len(split)), test_size=fraction, random_state=seed % 2**32, stratify=split.labels.numpy()
    )
    return _sorted(split, rest), _sorted(split, held_out)


def _check(split: Split, fraction: float, classes: tuple[str, ...], field: str) -> None:
    counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
    alone = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    if alone:
        raise DataError(
            f"{field}={fraction} needs at least 2 images per class, one for each side,"
            f" but there is only 1 of {', '.join(alone)}; add images, or remove the class"
        )
    present = sum(count > 0 for count in counts)
    held_out = math.ceil(len(split) * fraction)  # as scikit-learn rounds
    for size, change in ((held_out, "raise"), (len(split) - held_out, "lower")):
        if size < present:
            raise DataError(
                f"{field}={fraction} of {counted(len(split), 'image')} leaves {size} on one side, fewer than the"
                f" {present} classes; {change} {field}, or add images"
            )


def _sorted(split: Split, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Split:
    return split.take(torch.from_numpy(np.sort(chosen)))
