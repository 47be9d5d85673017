"""The training loop: it learns, stops for the right reason, and continues bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from lab import registry
from lab.registry import optimizers, schedulers
from lab.training import Outcome, Trainer, evaluate, load_checkpoint, save_checkpoint
from tests.trainers import finish, new_trainer, stopped_after

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "depth": 1,
    "width": 4,
    "batch_size": 256,
    "epochs": 4,
    "patience": None,
    "lr": 0.01,
    "threads": 1,
}


# seven steps an epoch, as many as all images take with TINY
FEW: dict[str, Any] = {"batch_size": 64, "train_samples": 430}


def trainer(**values: Any) -> Trainer:
    return new_trainer(**{**TINY, **values})


def curves(trained: Trainer) -> list[dict[str, float]]:
    """Return the metrics that do not depend on the clock."""
    clock = ("epoch_seconds", "images_per_second", "mined_seconds")
    return [{name: value for name, value in epoch.items() if name not in clock} for epoch in trained.history]


_WHOLE: dict[str, Trainer] = {}


def whole(values: dict[str, Any]) -> Trainer:
    """Return a trainer that was never stopped: one for all tests of the same settings, which only look at it."""
    if str(values) not in _WHOLE:
        _WHOLE[str(values)] = finish(trainer(**FEW | values))
    return _WHOLE[str(values)]


def assert_same(one: Trainer, other: Trainer) -> None:
    assert curves(one) == curves(other)
    assert one.step_history == other.step_history
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_it_learns() -> None:
    trained = finish(trainer(width=16, epochs=8))
    assert trained.outcome is Outcome.COMPLETED
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    assert trained.history[-1]["val_accuracy"] > 0.3
    assert set(trained.history[0]) == {
        *(
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "lr",
            "epoch_seconds",
            "images_per_second",
        )
    }


EXACT = [
    *({"optimizer": name} for name in sorted(optimizers)),
    *({"scheduler": name} for name in sorted(schedulers)),
    {"dropout": 0.3, "dense": (16,), "conv_dropout": 0.1},
    {"norm": "batch", "dense": (16,), "dense_norm": "batch"},
    {"augment": ("random_crop", "horizontal_flip"), "image_size": 12},
    {"precision": "bf16"},
    {"augment": ("rotation", "translation", "cutout"), "image_size": 12},
    {"augment": ("random_resized_crop", "randaugment", "random_erasing"), "image_size": 12},
    {"augment": ("horizontal_flip", "mixup", "cutmix"), "loss": "focal"},
    {"augment": ("mixup",), "loss": "mse", "sampler": "balanced"},
    {"augment": ("cutmix",), "loss": "balanced_cross_entropy", "hard_mining_from": 2},
    {"sampler": "balanced", "hard_mining_from": 2, "hard_mining_fraction": 0.5},
    {"hard_mining_from": 2, "hard_mining_fraction": 0.5, "scheduler": "one_cycle"},
    {"log_every_n_steps": 3, "train_samples": 250},
    {"depth": 2, "block": ("conv", "preact"), "norm": "batch"},
    {"freeze": 1, "norm": "batch", "depth": 2, "optimizer": "sgd", "momentum": 0.9},
    {"loss": "balanced_cross_entropy", "init": "kaiming"},
    {"backbone_lr_factor": 0.1, "scheduler": "one_cycle", "dense": (8,)},
    {"backbone_lr_factor": 0.1, "scheduler": "plateau", "optimizer": "sgd", "freeze": 1, "depth": 2},
    {
        "architecture": "torchvision/mnasnet0_5",
        "image_size": 32,
        "batch_size": 16,
        "train_samples": 80,
        "freeze": 2,
    },
    {"label_smoothing": 0.1, "optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    {"label_smoothing": 0.1, "loss": "mse"},
    {"accumulate": 2, "norm": "batch"},
    {"accumulate": 3, "scheduler": "one_cycle", "clip_grad_norm": 0.5, "hard_mining_from": 2},
    {"ema_decay": 0.9, "norm": "batch", "accumulate": 2},
    {"precision": "fp16", "norm": "batch"},
    {"precision": "fp16", "clip_grad_norm": 1.0, "accumulate": 2, "optimizer": "radam"},
    {"optimizer": "muon", "clip_grad_norm": 0.1, "dense": (16,), "precision": "fp16", "weight_decay": 0.1},
    *({"warmup_epochs": 1, "scheduler": name} for name in sorted(schedulers)),
    {
        "augment": ("random_resized_crop", "randaugment", "random_erasing", "mixup", "cutmix"),
        "label_smoothing": 0.1,
        "optimizer": "muon",
        "warmup_epochs": 2,
        "scheduler": "cosine",
        "accumulate": 2,
        "clip_grad_norm": 1.0,
        "ema_decay": 0.8,
        "sampler": "balanced",
        "metrics": ("f1",),
    },
    {
        "metrics": ("auroc", "ece"),
        "monitor": "val_auroc",
        "scheduler": "plateau",
        "eval_test_every_epoch": True,
    },
]


@pytest.mark.parametrize("values", EXACT, ids=str)
def test_the_same_config_gives_the_same_curves(values: dict[str, Any]) -> None:
    assert curves(finish(trainer(**FEW | values))) == curves(whole(values))


@pytest.mark.parametrize("values", EXACT, ids=str)
def test_it_continues_to_the_last_bit(values: dict[str, Any], tmp_path: Path) -> None:
    first = trainer(**FEW | values)
    for _ in islice(first.epochs(), 2):
        pass
    save_checkpoint(first.state_dict(), tmp_path / "last.pt")
    torch.manual_seed(999)  # whatever happens in between
    second = trainer(**FEW | values)
    second.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    finish(second)
    assert_same(second, whole(values))


@pytest.mark.parametrize("values", EXACT, ids=str)
@pytest.mark.parametrize("asked", [0, 3, 8])
def test_it_continues_within_an_epoch_to_the_last_bit(
    values: dict[str, Any], asked: int, tmp_path: Path
) -> None:
    first = stopped_after(asked, **TINY | FEW | values)
    assert first.is_settled
    save_checkpoint(first.state_dict(), tmp_path / "last.pt")
    torch.manual_seed(999)  # whatever happens in between
    second = trainer(**FEW | values)
    second.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    assert (second.epoch, second.step) == (first.epoch, first.step)
    finish(second)
    assert_same(second, whole(values))


def test_a_checkpoint_is_due_every_so_many_steps_of_an_epoch() -> None:
    trained = trainer(epochs=2, checkpoint_every_n_steps=3)
    places: list[tuple[str, bool]] = []
    for epoch in trained.epochs(keep=lambda: places.append((trained.place, trained.is_settled))):
        places.append((f"epoch {epoch.epoch}", trained.is_settled))
    steps = [f"after step {step} of epoch {epoch}" for epoch in (1, 2) for step in (3, 6)]
    assert places == [(name, True) for name in (*steps[:2], "epoch 1", *steps[2:], "epoch 2")]
    assert curves(trained) == curves(finish(trainer(epochs=2)))


def test_while_batches_are_mined_nothing_can_be_continued() -> None:
    mining = {"hard_mining_from": 1, "hard_mining_fraction": 0.5}
    assert not stopped_after(
        9, **TINY, **mining
    ).is_settled  # seven steps, the end of the epoch, and one mined step


@pytest.mark.parametrize(
    "wrong",
    [{"order": torch.zeros(10)}, {"sizes": [256] * 99}, {"losses": None}, {"lr": "high"}, {"seconds": None}],
    ids=str,
)
def test_an_epoch_under_way_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    state = stopped_after(3, **TINY).state_dict()
    state["under_way"] |= wrong
    with pytest.raises(ValueError, match="the checkpoint's under_way is malformed"):
        trainer().load_state_dict(state)


@pytest.mark.parametrize("place", [-1, 1800])
def test_a_balanced_order_under_way_that_is_none_is_refused(place: int) -> None:
    state = stopped_after(3, **TINY, sampler="balanced").state_dict()
    state["under_way"]["order"][5] = place
    with pytest.raises(ValueError, match="the checkpoint's under_way is malformed"):
        trainer(sampler="balanced").load_state_dict(state)


def test_another_seed_gives_other_curves_on_the_same_split() -> None:
    one, other = trainer(seed=0), trainer(seed=1)
    assert curves(finish(one)) != curves(finish(other))
    assert one.dataset.digest == other.dataset.digest


def test_a_checkpoint_of_another_config_is_refused() -> None:
    state = finish(trainer(epochs=1)).state_dict()
    with pytest.raises(ValueError, match="the checkpoint is of cell"):
        trainer(epochs=1, lr=0.5).load_state_dict(state)


def test_a_continued_trial_that_was_done_trains_nothing_more() -> None:
    done = finish(trainer(epochs=2))
    again = trainer(epochs=2)
    again.load_state_dict(done.state_dict())
    assert list(again.epochs()) == []
    assert again.outcome is done.outcome


def test_patience_stops_it_and_the_best_weights_come_back() -> None:
    trained = trainer(epochs=60, patience=2, lr=0.05, width=8)
    epochs = list(trained.epochs())
    best = trained.patience.best_epoch
    assert best is not None
    assert trained.outcome is Outcome.EARLY_STOPPED
    assert len(epochs) == best + 2 < 60
    trained.restore_best()
    assert trained.dataset.val is not None
    again = evaluate(trained.model, trained.dataset.val, trained.dataset, trained.config)
    assert again.accuracy == trained.history[best - 1]["val_accuracy"]
    assert [epoch.epoch for epoch in epochs if epoch.improved][-1] == best


@pytest.mark.parametrize("monitor", ["train_loss", "train_accuracy", "val_loss", "val_accuracy"])
def test_any_metric_can_select(monitor: str) -> None:
    trained = finish(trainer(monitor=monitor))
    values = [epoch[monitor] for epoch in trained.history]
    assert trained.patience.best_value == (max if monitor.endswith("accuracy") else min)(values)


def test_without_validation_images_training_accuracy_selects() -> None:
    trained = finish(trainer(val_fraction=0.0, monitor="train_accuracy"))
    assert trained.dataset.val is None
    assert "val_loss" not in trained.history[0]


def test_metrics_change_nothing_but_what_is_logged() -> None:
    plain, measured = curves(finish(trainer())), curves(finish(trainer(metrics=("auroc", "f1"))))
    more = {"val_auroc", "val_f1"}
    assert [set(epoch) - more for epoch in measured] == [set(epoch) for epoch in plain]
    assert [{n: v for n, v in epoch.items() if n not in more} for epoch in measured] == plain


def test_test_metrics_every_epoch_have_their_own_name() -> None:
    assert "epoch_test_accuracy" in finish(trainer(eval_test_every_epoch=True)).history[0]


class Exploding(torch.nn.Module):
    """A loss that is infinite at its third step."""

    def __init__(self, *_images: object, **_options: object) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return torch.nn.functional.cross_entropy(logits, labels) * (math.inf if self.steps == 3 else 1)


@pytest.fixture
def exploding_loss() -> Iterator[str]:
    registry.losses.register("exploding", Exploding)
    yield "exploding"
    del registry.losses._entries["exploding"]


def test_divergence_ends_it_at_the_step(exploding_loss: str) -> None:
    trained = trainer(loss=exploding_loss)
    epochs = list(trained.epochs())
    assert trained.outcome is Outcome.DIVERGED
    assert trained.diverged_step == 3
    assert len(epochs) == 1  # the part before it diverged
    assert set(epochs[0].metrics) == {"train_loss", "train_accuracy"}
    assert math.isfinite(epochs[0].metrics["train_loss"])
    assert trained.finished


def test_divergence_in_a_later_epoch_keeps_the_best() -> None:
    trained = trainer(optimizer="sgd", epochs=6, lr=0.05)
    for epoch in trained.epochs():
        if epoch.epoch == 2:
            trained._learner.optimizer.param_groups[0]["lr"] = 1e30
    assert trained.outcome is Outcome.DIVERGED
    assert trained.patience.best_epoch in (1, 2)
    trained.restore_best()
    assert all(value.isfinite().all() for value in trained.model.state_dict().values())


def test_learning_nothing_is_an_outcome() -> None:
    trained = finish(trainer(optimizer="sgd", lr=1e-9, patience=2))
    assert trained.outcome is Outcome.NOT_CONVERGED


def test_it_stops_between_two_steps() -> None:
    stopped = stopped_after(10, **TINY)
    assert stopped.epoch == 1  # an epoch has seven steps


def test_bf16_learns_as_well_as_fp32() -> None:
    accuracies = [
        finish(trainer(precision=precision, width=16, epochs=8)).patience.best_value or 0.0
        for precision in ("fp32", "bf16")
    ]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.08)
