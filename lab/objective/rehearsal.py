"""A trial in miniature: a few steps of it, one evaluation and its end, to time what it will take."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from lab.config import TrialConfig
from lab.data import Dataset, Sizes, Split, settled
from lab.objective.placement import Placement
from lab.objective.trial import train
from lab.tracking import Tracker
from lab.training import Trainer

__all__ = ["Pace", "rehearse"]

_EVALUATED = 512  # images at most
_MOST_STEPS = 64
# one epoch, from random weights, at a rate at which it does not diverge
_IN_MINIATURE: Final[Mapping[str, object]] = {
    **{"epochs": 1, "patience": None, "hard_mining_from": None, "lr": 1e-5},
    **dict.fromkeys(("init_from", "pretrained", "weights", "weights_digest")),
}
_EVALUATION = 3  # a step goes forward and backward: about three times the work of an evaluation


@dataclass(frozen=True)
class Pace:
    """What a trial takes on this machine, in seconds.

    Attributes:
        image: to train on one image.
        evaluated: to evaluate one image.
        around: to build the model before the first epoch, and to analyse, draw and store it after the last one.
    """

    image: float
    evaluated: float
    around: float

    def seconds(self, config: TrialConfig, sizes: Sizes, epochs: int) -> float:
        """Return how long a trial of `config` takes for so many epochs on data of these `sizes`."""
        tested = sizes.test if config.eval_test_every_epoch else 0
        epoch = sizes.train * self.image + (sizes.val + tested) * self.evaluated
        return self.around + epochs * epoch + sizes.test * self.evaluated


def rehearse(
    config: TrialConfig,
    dataset: Dataset,
    tracker: Tracker,
    *,
    seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> Pace:
    """Return the pace of `config`, from steps on images of `dataset`.

    Args:
        config: to time; with as many threads as it says, or as PyTorch has.
        dataset: on the trial's device.
        tracker: that gets a run, as a trial's; one to throw away.
        seconds: roughly how long the steps may take. Two are made anyway.
        should_stop: asked at every step.

    Raises:
        LabError: the settings do not fit the data, or memory ran out.
        Interrupted: `should_stop` returned True.
    """
    config = settled(config).model_copy(update=_IN_MINIATURE)
    step = _step_seconds(config, dataset, should_stop)
    images = min(config.batch_size * config.accumulate, len(dataset.train))
    only_steps = Pace(step / images, step / images / _EVALUATION, 0.0)
    if step > seconds:  # a whole miniature would take far longer
        return only_steps
    small = _small(dataset, images * max(1, min(_MOST_STEPS, math.floor(seconds / step))))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        placement = Placement(checkpoint_dir=Path(folder))
        result = train(config, tracker, placement=placement, dataset=small, should_stop=should_stop)
        tracker.flush()
        took = time.perf_counter() - began
    epoch = result.history[0] if result.history else {}
    # an epoch that diverges has no times
    return _pace(epoch, Sizes.of(small), took, config) if "epoch_seconds" in epoch else only_steps


def _step_seconds(config: TrialConfig, dataset: Dataset, should_stop: Callable[[], bool]) -> float:
    """Return how long an optimizer step takes after the first one, which makes PyTorch set itself up."""
    small = _small(dataset, 2 * config.batch_size * config.accumulate)
    steps = Trainer(config, small, should_stop).optimizer_steps()
    if not math.isfinite(next(steps)):  # it has diverged, and has no second step
        steps = Trainer(config, small, should_stop).optimizer_steps()
    began = time.perf_counter()
    next(steps)
    return time.perf_counter() - began


def _pace(epoch: Mapping[str, float], sizes: Sizes, took: float, config: TrialConfig) -> Pace:
    image = 1 / epoch["images_per_second"]
    trained = sizes.train * image
    evaluations = sizes.val + (sizes.test if config.eval_test_every_epoch else 0)
    rest = max(0.0, epoch["epoch_seconds"] - trained)
    evaluated = rest / evaluations if evaluations else image / _EVALUATION
    around = took - epoch["epoch_seconds"] - sizes.test * evaluated
    return Pace(image, evaluated, max(0.0, around))


def _small(dataset: Dataset, images: int) -> Dataset:
    """Return a dataset of the first images of each split."""
    val = None if dataset.val is None else _first(dataset.val, _EVALUATED)
    return replace(
        dataset, train=_first(dataset.train, images), val=val, test=_first(dataset.test, _EVALUATED)
    )


def _first(split: Split, images: int) -> Split:
    return split.take(torch.arange(min(images, len(split)), device=split.device))
