"""Stratified, seeded splits: of a fraction, into folds, and of whole groups."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lab.data.cache import mapped
from lab.errors import DataError, printable
from lab.wording import counted

__all__ = ["fold_out", "hold_out"]

Indices = NDArray[np.integer]

_SHUFFLES: Final = 8  # orders of the groups that are tried


def hold_out(
    labels: Indices,
    *,
    fraction: float,
    seed: int,
    classes: tuple[str, ...],
    field: str,
    groups: Sequence[str] = (),
) -> tuple[Indices, Indices]:
    """Return the indices of what remains, and of the held-out `fraction`, both sorted.

    Every class keeps its share in both, to within one image. With `groups`, no group is in both, and fraction and
    shares are met as closely as whole groups allow.

    Args:
        labels: of the images, [N].
        fraction: of the images; rounded up without groups.
        seed: the same seed gives the same split.
        classes: class names, for errors.
        field: the setting that `fraction` comes from, for errors.
        groups: of each image, such as a patient; empty for none.

    Raises:
        DataError: there are too few images or groups; says what to change.
    """
    if groups:
        sides = _by_groups(labels, groups, (1 - fraction, fraction), seed)
        _check_groups(labels, groups, sides, classes, f"{field}={fraction}", 0)
        return np.flatnonzero(sides == 0), np.flatnonzero(sides == 1)
    _check(labels, fraction, classes, field)
    sides = _remembered(f"fraction {fraction} {seed}", labels, lambda: _drawn(labels, fraction, seed))
    return np.flatnonzero(sides == 0), np.flatnonzero(sides == 1)


def fold_out(
    labels: Indices, *, folds: int, fold: int, seed: int, classes: tuple[str, ...], groups: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """Return the indices of all folds but one, and of that one, both sorted: stratified k-fold cross-validation.

    Over all values of `fold`, each image is in that one exactly once. Every class has its share in each fold, to
    within one image. With `groups`, no group is in two folds, and shares and sizes are met as closely as whole groups
    allow.

    Args:
        labels: of the images, [N].
        folds: number of folds.
        fold: which of them to hold out, from 0.
        seed: the same seed gives the same folds.
        classes: class names, for errors.
        groups: of each image, such as a patient; empty for none.

    Raises:
        DataError: there are too few images or groups; says what to change.
    """
    if groups:
        if len(set(groups)) < folds:
            raise DataError(
                f"folds={folds} needs at least {folds} groups in group_column, but the training images, without those"
                f" for testing, are of {counted(len(set(groups)), 'group')}; lower folds or test_fraction, or leave"
                " out group_column"
            )
        sides = _by_groups(labels, groups, (1 / folds,) * folds, seed)
        for each in range(folds):  # all of them: a sweep over folds should not fail at its last
            _check_groups(labels, groups, (sides == each).astype(np.int64), classes, f"folds={folds}", each)
    else:
        sides = _folds(labels, folds, seed, classes)
    return np.flatnonzero(sides != fold), np.flatnonzero(sides == fold)


def _remembered(how: str, labels: Indices, cut: Callable[[], Indices]) -> Indices:
    """Return the side of each image that `cut` finds; the cache spares the second that scikit-learn takes to import."""
    key = hashlib.sha256(f"{how}\n".encode() + labels.tobytes()).hexdigest()
    return mapped("splits", key, cut)


def _drawn(labels: Indices, fraction: float, seed: int) -> Indices:
    """Return 1 for the images of a stratified random `fraction`, else 0."""
    from sklearn.model_selection import train_test_split

    sides = np.zeros(len(labels), np.int16)
    every = np.arange(len(labels))
    _, held_out = train_test_split(every, test_size=fraction, random_state=seed % 2**32, stratify=labels)
    sides[held_out] = 1
    return sides


def _folds(labels: Indices, folds: int, seed: int, classes: tuple[str, ...]) -> Indices:
    """Return the fold of each image."""
    counts = np.bincount(labels, minlength=len(classes))
    few = [
        f"{count} of {printable(name)}"
        for name, count in zip(classes, counts, strict=True)
        if 0 < count < folds
    ]
    if few:
        raise DataError(
            f"folds={folds} needs at least {folds} training images per class, but there are only {', '.join(few)};"
            " lower folds, or add images"
        )

    def cut() -> Indices:
        from sklearn.model_selection import StratifiedKFold

        sides = np.empty(len(labels), np.int16)
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(labels, labels)
        for fold, (_, held_out) in enumerate(parts):
            sides[held_out] = fold
        return sides

    return _remembered(f"folds {folds} {seed}", labels, cut)


def _check(labels: Indices, fraction: float, classes: tuple[str, ...], field: str) -> None:
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    alone = [printable(name) for name, count in zip(classes, counts, strict=True) if count == 1]
    if alone:
        raise DataError(
            f"{field}={fraction} needs at least 2 images per class, one for each side,"
            f" but there is only 1 of {', '.join(alone)}; add images, or remove the class"
        )
    present = sum(count > 0 for count in counts)
    held_out = math.ceil(len(labels) * fraction)  # as scikit-learn rounds
    for size, change in ((held_out, "raise"), (len(labels) - held_out, "lower")):
        if size < present:
            raise DataError(
                f"{field}={fraction} of {counted(len(labels), 'image')} leaves {size} on one side, fewer than the"
                f" {present} classes; {change} {field}, or add images"
            )


def _check_groups(
    labels: Indices, groups: Sequence[str], held_out: Indices, classes: tuple[str, ...], what: str, fold: int
) -> None:
    """Raise if nothing is held out, or if some class has nothing left to train on."""
    if not held_out.any() or held_out.all():
        raise DataError(
            f"{what} cannot be met by whole groups: one side would be empty, with {counted(len(set(groups)), 'group')}"
            f" in group_column of up to {max(np.unique(groups, return_counts=True)[1]):,} images; change it, or leave"
            " out group_column"
        )
    lost = np.setdiff1d(labels, labels[held_out == 0])
    if len(lost):
        names = ", ".join(printable(classes[label]) for label in lost)
        where = f" in fold {fold}" if what.startswith("folds") else ""
        raise DataError(
            f"{what} would leave no training images of {names}{where}, because too few groups in group_column have that"
            " class: a class needs images in at least 2 groups, better in more; add images, or leave out the class or"
            " group_column"
        )


def _by_groups(labels: Indices, groups: Sequence[str], shares: Sequence[float], seed: int) -> Indices:
    """Return which of the `shares` each image belongs to, by whole groups.

    Groups are dealt out from large to small, groups of similar size in random order, each to the part that then is
    closest to its share of every class and of all images (the least chi-square). The best of several random orders
    counts. As scikit-learn's StratifiedGroupKFold, but for shares of any size.
    """
    _, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((members.max() + 1, labels.max() + 1))
    np.add.at(counts, (members, labels), 1)
    counts = np.column_stack((counts[:, counts.any(0)], counts.sum(1)))  # [groups, classes + 1]: of all, too
    wanted = np.outer(shares, counts.sum(0))  # [parts, classes + 1]
    rng = np.random.RandomState(seed % 2**32)  # its stream never changes with numpy's version
    dealt = [_deal(counts, wanted, rng.permutation(len(counts))) for _ in range(_SHUFFLES)]
    _, best = min(dealt, key=lambda each: each[0])  # the first of equals
    return best[members]


def _deal(counts: NDArray[np.float64], wanted: NDArray[np.float64], order: Indices) -> tuple[float, Indices]:
    """Return how far the parts are from what is wanted, and the part of each group."""
    magnitudes = np.ceil(np.log2(counts[order, -1]))
    order = order[np.argsort(-magnitudes, kind="stable")]
    part = np.empty(len(counts), np.int64)
    lacking = wanted.copy()
    for group in order:
        # what the sum of (lacking - group)^2 / wanted adds, less what is the same for all parts
        cost = ((counts[group] ** 2 - 2 * counts[group] * lacking) / wanted).sum(1)
        part[group] = np.argmin(cost)
        lacking[part[group]] -= counts[group]
    return float((lacking**2 / wanted).sum()), part
