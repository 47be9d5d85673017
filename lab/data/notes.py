"""What all sources of images tell users: how many there are, where splits come from, and what looks wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from lab.config import TrialConfig
from lab.errors import printable
from lab.wording import counted

__all__ = ["SHOWN", "copied", "cut", "in_classes", "left_out_classes", "some"]

#: Names that are shown of many.
SHOWN: Final = 5

_CLASSES: Final = 12  # with their counts


def in_classes(counts: Counter[str]) -> str:
    """Return the number of images, and of each class: `12 images (cat 5, dog 7)`."""
    each = [f"{printable(name)} {count:,}" for name, count in list(counts.items())[:_CLASSES]]
    if len(counts) > _CLASSES:
        each.append(
            f"… {len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,} images"
        )
    return f"{counted(counts.total(), 'image')} ({', '.join(each)})"


def cut(roles: Collection[str], config: TrialConfig) -> list[str]:
    """Return which splits are not among the data's own `roles`, and where they come from instead."""
    lines = []
    if "val" not in roles:
        if config.folds is not None:
            taken = f"a fold of train (folds={config.folds})"
        else:
            taken = f"cut from train (val_fraction={config.val_fraction})"
        lines.append(f"val: {taken if config.val_fraction else 'none (val_fraction=0)'}")
    if "test" not in roles:
        lines.append(f"test: cut from train (test_fraction={config.test_fraction})")
    return lines


def left_out_classes(classes: Sequence[str], config: TrialConfig) -> list[str]:
    """Return which of the data's classes the setting `classes` leaves out."""
    dropped = [name for name in classes if config.classes and name not in config.classes]
    return [f"left out by `classes`: {some(dropped)}"] if dropped else []


def copied(groups: Sequence[Sequence[tuple[str, str, str]]], roles: Collection[str]) -> list[str]:
    """Return how many files are identical to others, where that distorts training or evaluation.

    Args:
        groups: of split, class and path of identical files.
        roles: the splits that the data has.
    """
    mixed = [group for group in groups if len({name for _, name, _ in group}) > 1]
    shared = [group for group in groups if len({role for role, _, _ in group}) > 1]
    repeated = [group for group in groups if len({(role, name) for role, name, _ in group}) < len(group)]
    return [
        f"{_copies(same)} {what}: {' = '.join(printable(path) for _, _, path in same[0][:3])}"
        for same, what in (
            (mixed, "in several classes"),
            (shared, "in several splits, so the model is evaluated on images it was trained on"),
            (
                [] if {"val", "test"} <= set(roles) else repeated,
                "in the same class more than once, and may end up in several splits",
            ),
        )
        if same
    ]


def _copies(groups: Sequence[object]) -> str:
    return counted(len(groups), "image is", "images are")


def some(names: Sequence[str]) -> str:
    """Return the first few names."""
    more = [f"… {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []
    return ", ".join([*map(printable, names[:SHOWN]), *more])
