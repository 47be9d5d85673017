"""Classes of unequal size, as in SVHN, only more so: what balanced sampling and the losses for them are good for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lab import registry
from lab.config import TrialConfig
from lab.data import DataInfo, RawData
from lab.data.synthetic import SYNTHETIC
from lab.training import Outcome, Trainer, evaluate
from tests.trainers import finish, new_trainer

_COMMON = 2  # classes with all of their 200 images; of the others, a twentieth


class _Unequal:
    """The synthetic images, most of them left out of eight classes' training images."""

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        return replace(SYNTHETIC.describe(config, root), train_images=None)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        data = SYNTHETIC.load(config, root, download=download)
        labels = data.train.labels
        # ten of each class are among the first 100
        kept = (labels < _COMMON) | (torch.arange(len(labels)) < 100)
        return replace(data, train=data.train.take(kept.nonzero().flatten()))


@pytest.fixture(autouse=True)
def unequal() -> Iterator[None]:
    registry.datasets.register("unequal", _Unequal(), ["image_size"])
    yield
    registry.datasets._entries.pop("unequal")


def _trained(epochs: int, **values: Any) -> Trainer:
    trainer = new_trainer(
        dataset="unequal",
        image_size=8,
        filters=(16, 16),
        batch_size=32,
        epochs=epochs,
        patience=None,
        val_fraction=0.0,
        monitor="train_accuracy",
        lr=0.01,
        threads=1,
        **values,
    )
    return finish(trainer)


def _rare(trainer: Trainer) -> float:
    """Return the accuracy on the test images of rare classes, 50 of each."""
    test = trainer.dataset.test
    rare = test.take((test.labels >= _COMMON).nonzero().flatten())
    return evaluate(trainer.model, rare, trainer.dataset, trainer.config).accuracy


@pytest.mark.parametrize("more", [{}, {"loss": "focal"}], ids=["alone", "with focal loss"])
def test_balanced_sampling_teaches_rare_classes_from_the_beginning(more: dict[str, Any]) -> None:
    shuffled, balanced = (_rare(_trained(2, sampler=sampler, **more)) for sampler in ("shuffled", "balanced"))
    assert shuffled < 0.2
    assert balanced > 0.35


def test_focal_loss_learns_all_classes() -> None:
    trainer = _trained(8, loss="focal", focal_gamma=3.0)
    assert trainer.history[-1]["train_loss"] < 0.5 * trainer.history[0]["train_loss"]
    assert _rare(trainer) > 0.35


def test_chance_is_an_equal_share_of_each_class_that_is_drawn() -> None:
    trainer = _trained(1, sampler="balanced")
    # as of a net that knows only one class, if the images were shuffled
    trainer.history[-1]["train_accuracy"] = 0.4
    assert trainer.outcome is Outcome.COMPLETED
    shuffled = _trained(1)
    shuffled.history[-1]["train_accuracy"] = 0.4
    assert shuffled.outcome is Outcome.NOT_CONVERGED


def test_an_epoch_of_balanced_draws_is_as_long_and_has_all_classes_equally() -> None:
    trainer = _trained(1, sampler="balanced")
    labels = trainer.dataset.train.labels
    assert torch.bincount(labels).tolist() == [200] * _COMMON + [10] * 8
    drawn = torch.stack([torch.bincount(labels[trainer._begin().order], minlength=10) for _ in range(20)])
    assert drawn.sum(1).tolist() == [len(labels)] * 20
    assert 800 < int(drawn.sum(0).min()) <= int(drawn.sum(0).max()) < 1_120  # 960 expected, deviation 29
