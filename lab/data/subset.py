"""A selection of a dataset's classes, and a small sample of its training images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lab import registry
from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, Split
from lab.errors import DataError, Fault, printable

__all__ = ["class_faults", "draw_sample", "sample_faults", "select_classes"]


def class_faults(classes: Sequence[str], known: Sequence[str]) -> list[Fault]:
    """Return what is wrong with the config's `classes` for a dataset that has the `known` ones; () keeps all."""
    missing = [name for name in classes if name not in known]
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    messages = []
    if missing:
        unknown = " ".join(f"Unknown class '{name}'.{registry.suggest(name, known)}" for name in missing)
        messages.append(f"{unknown} Known: {', '.join(known)}")
    if repeated:
        messages.append(f"must name each class once, but repeats {', '.join(repeated)}")
    if len(classes) == 1:
        messages.append(f"must name at least 2 classes, but got only {classes[0]}")
    return [Fault(message, "classes") for message in messages]


def sample_faults(config: TrialConfig, info: DataInfo) -> list[Fault]:
    """Return what is wrong with the config's `train_samples`, as far as it shows before loading.

    Args:
        config: the settings train_samples, classes, folds and val_fraction matter.
        info: of the whole dataset.
    """
    samples, classes = config.train_samples, len(config.classes or info.classes)
    if samples is None:
        return []
    if samples < classes:
        message = f"must be at least 1 for each of the {classes} classes, but got {samples}"
        return [Fault(message, "train_samples")]
    if info.train_images is None:
        return []
    if config.folds is not None:
        taken = info.train_images // config.folds
        held_out = f" less a fold of {config.folds}"
    else:
        taken = math.ceil(info.train_images * config.val_fraction)  # as scikit-learn rounds
        held_out = f" less val_fraction={config.val_fraction}" if config.val_fraction else ""
    left = info.train_images - taken
    if samples <= left:
        return []
    message = f"must be at most {left}, the training images of {config.dataset}{held_out}, but got {samples}"
    return [Fault(message, "train_samples")]


def select_classes(raw: RawData, classes: tuple[str, ...]) -> RawData:
    """Return the images of these classes in all splits, labelled by their position in `classes`; () keeps all.

    Raises:
        DataError: a split has no images of them.
    """
    if not classes:
        return raw
    places = torch.full((len(raw.classes),), -1)  # new label of each old one
    places[[raw.classes.index(name) for name in classes]] = torch.arange(len(classes))
    train = _relabel(raw.train, places, classes, "training")
    test = None if raw.test is None else _relabel(raw.test, places, classes, "test")
    val = None if raw.val is None else _relabel(raw.val, places, classes, "validation")
    kept = (places[raw.train.labels] >= 0).tolist()
    groups = tuple(group for group, keep in zip(raw.groups, kept, strict=True) if keep) if raw.groups else ()
    return replace(raw, train=train, test=test, classes=classes, val=val, groups=groups)


def draw_sample(split: Split, *, samples: int, seed: int, classes: tuple[str, ...]) -> Split:
    """Return a random sample of `split`, equally many images per class, in their original order.

    The first classes get one more if it does not divide evenly. With the same seed, a smaller sample is part of a
    larger one, so trials over `train_samples` differ only in the size of the sample.

    Args:
        split: on the CPU.
        samples: number of images to draw.
        seed: the same seed gives the same sample.
        classes: class names, for errors.

    Raises:
        DataError: a class has too few images.
    """
    each, more = divmod(samples, len(classes))
    asked = [each + (label < more) for label in range(len(classes))]
    _check(split, asked, samples, classes)
    rng = np.random.RandomState(seed % 2**32)  # its stream never changes with numpy's version
    labels = split.labels.numpy()
    # the whole class is shuffled, however few are taken, so the draws for the next class stay the same
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(asked)]
    return split.take(torch.from_numpy(np.sort(np.concatenate(drawn))))


def _relabel(split: Split, places: torch.Tensor, classes: tuple[str, ...], what: str) -> Split:
    labels = places[split.labels]
    kept = (labels >= 0).nonzero().flatten()
    if len(kept) == 0:
        raise DataError(f"classes={','.join(classes)} leaves no {what} images; name others, or add images")
    return split.take(kept, labels[kept])


def _check(split: Split, asked: list[int], samples: int, classes: tuple[str, ...]) -> None:
    counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
    short = [
        f"{have} of {printable(name)} (needed: {need})"
        for name, have, need in zip(classes, counts, asked, strict=True)
        if have < need
    ]
    if short:
        raise DataError(
            f"train_samples={samples} takes equally many training images of every class, but there are only"
            f" {', '.join(short)}; lower train_samples or val_fraction, or add images"
        )
