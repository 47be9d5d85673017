"""From what a source loads to training, validation and test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from lab.config import TrialConfig
from lab.data.base import RawData, Split
from lab.data.split import Indices, fold_out, hold_out
from lab.data.subset import draw_sample
from lab.errors import DataError, printable
from lab.wording import counted

__all__ = ["Division", "divide", "own_val_and_folds"]


class Division(NamedTuple):
    """The three splits, and what users should know about them, one line each."""

    train: Split
    val: Split | None
    test: Split
    notes: tuple[str, ...]


def divide(config: TrialConfig, raw: RawData) -> Division:
    """Return the splits of what a source has loaded: its own, or as the config says.

    Args:
        config: the settings val_fraction, test_fraction, folds, fold, train_samples and split_seed matter.
        raw: on the CPU.

    Raises:
        DataError: there are too few images or groups, or the source's own validation split contradicts `folds`.
    """
    left = _Left(raw.train, raw.groups, raw.classes, config.split_seed)
    test = left.fraction("test", config.test_fraction) if raw.test is None else raw.test
    val = raw.val
    if config.folds is not None:
        if val is not None:
            raise DataError(own_val_and_folds(config))
        val = left.fold(config.fold or 0, config.folds)
    elif val is None and config.val_fraction > 0:
        val = left.fraction("val", config.val_fraction)
    train = left.split
    if config.train_samples is not None:
        train = draw_sample(train, samples=config.train_samples, seed=config.split_seed, classes=raw.classes)
    return Division(train, val, test, tuple(left.notes))


def own_val_and_folds(config: TrialConfig) -> str:
    """Return why `folds` contradicts data with a validation split of its own."""
    return (
        f"folds={config.folds} makes each fold the validation split once, but this {config.dataset} has one of its own;"
        " leave out folds, or move its validation images to the training images"
    )


@dataclass
class _Left:
    """The training images that are left, and their groups; the other splits are taken from them."""

    split: Split
    groups: Sequence[str]
    classes: tuple[str, ...]
    seed: int
    notes: list[str] = field(default_factory=list)

    def fraction(self, role: str, fraction: float) -> Split:
        """Take out a fraction."""
        return self._take(
            role,
            hold_out(
                self.split.labels.numpy(),
                fraction=fraction,
                seed=self.seed,
                classes=self.classes,
                field=f"{role}_fraction",
                groups=self.groups,
            ),
        )

    def fold(self, fold: int, folds: int) -> Split:
        """Take out a fold."""
        return self._take(
            f"val, fold {fold} of {folds}",
            fold_out(
                self.split.labels.numpy(),
                folds=folds,
                fold=fold,
                seed=self.seed,
                classes=self.classes,
                groups=self.groups,
            ),
        )

    def _take(self, what: str, found: tuple[Indices, Indices]) -> Split:
        rest, held_out = found
        if self.groups:
            self.notes += _grouped(what, self.split.labels.numpy(), self.groups, held_out, self.classes)
            self.groups = [self.groups[at] for at in rest]
        taken = self.split.take(torch.from_numpy(held_out))
        self.split = self.split.take(torch.from_numpy(rest))
        return taken


def _grouped(
    what: str, labels: Indices, groups: Sequence[str], held_out: Indices, classes: tuple[str, ...]
) -> list[str]:
    """Return how well whole groups met what was asked."""
    several = f"{len({groups[at] for at in held_out}):,} of {counted(len(set(groups)), 'group')}"
    lines = [f"{what}: {several}, {len(held_out):,} of {counted(len(labels), 'image')}"]
    lacking = np.setdiff1d(labels, labels[held_out])
    if len(lacking):
        names = ", ".join(printable(classes[label]) for label in lacking)
        lines.append(f"warning: {what} has no images of {names}: their groups are all in train")
    return lines
