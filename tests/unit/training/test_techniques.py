"""Hard-batch mining, metrics by iteration, frozen blocks, and starting from trained weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from lab.errors import ConfigError
from lab.training import Outcome, Trainer, fitting_weights
from tests.trainers import finish, new_trainer

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "filters": (4, 6),
    "norm": "batch",
    "dense": (8,),
    "batch_size": 200,
    "epochs": 3,
    "patience": None,
    "threads": 1,
}


def trainer(**values: Any) -> Trainer:
    return new_trainer(**{**TINY, **values})


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}


def test_hard_batches_are_fed_again_from_the_epoch_on() -> None:
    history = finish(trainer(hard_mining_from=2, hard_mining_fraction=0.4)).history
    assert [epoch.get("mined_batches") for epoch in history] == [None, 4, 4]  # of 9 batches
    for epoch in history[1:]:
        assert epoch["mined_loss_before"] > epoch["train_loss"]  # they were the worst
        assert 0 < epoch["mined_seconds"] < epoch["epoch_seconds"]


def test_mining_trains_and_leaves_the_schedule_alone() -> None:
    plain, mined = (finish(trainer(hard_mining_from=start, scheduler="one_cycle")) for start in (None, 1))
    assert [epoch["lr"] for epoch in plain.history] == [epoch["lr"] for epoch in mined.history]
    assert plain.history[0]["train_loss"] == mined.history[0]["train_loss"]
    assert plain.history[0]["val_loss"] != mined.history[0]["val_loss"]


def test_curves_against_the_iteration() -> None:
    trained = trainer(log_every_n_steps=4)
    results = list(trained.epochs())
    assert [list(result.steps) for result in results] == [[4, 8, 9], [13, 17, 18], [22, 26, 27]]
    assert trained.step_history == {step: point for result in results for step, point in result.steps.items()}
    assert set(trained.step_history[4]) == {"step_loss", "step_accuracy"}
    assert not finish(trainer()).step_history


@pytest.mark.parametrize(("freeze", "count"), [(1, 1), (2, 2), ("all_but_head", 3)])
def test_frozen_blocks_stay_as_they_are_with_their_statistics(freeze: Any, count: int) -> None:
    trained = trainer(freeze=freeze)
    before = weights(trained)
    after = weights(finish(trained))
    blocks = (
        ("features.conv1", "features.norm1"),
        ("features.conv2", "features.norm2"),
        ("classifier.dense1",),
    )
    frozen = tuple(name for block in blocks[:count] for name in block)
    for name in before:
        moved = not torch.equal(before[name], after[name])
        assert moved is not name.startswith(frozen), name


def test_it_begins_with_trained_weights_and_keeps_the_head_for_the_same_classes() -> None:
    source = weights(finish(trainer()))
    same, new = trainer(seed=1), trainer(seed=1)
    head = {name: value for name, value in weights(new).items() if name.startswith("classifier.dense2")}
    same.begin_with(source, new_head=False)
    new.begin_with(source, new_head=True)
    assert all(torch.equal(value, source[name]) for name, value in weights(same).items())
    assert all(torch.equal(value, (source | head)[name]) for name, value in weights(new).items())


@pytest.mark.parametrize(
    ("values", "new_head", "message"),
    [
        (
            {"filters": (4, 5)},
            True,
            "init_from: .* its features.conv2.weight is 6×4×3×3, this one's is 5×4×3×3",
        ),
        ({"norm": "none"}, True, "its features.norm1.weight is 4, this one's is missing"),
        (
            {"classes": ("pattern1", "pattern2")},
            False,
            "its classifier.dense2.weight is 10×8, this one's is 2×8",
        ),
        ({"dense": ()}, True, "its .* is .*, this one's is missing"),
    ],
)
def test_weights_of_another_model_are_refused(values: dict[str, Any], new_head: bool, message: str) -> None:
    source = weights(trainer())
    with pytest.raises(ConfigError, match=message):
        trainer(**values).begin_with(source, new_head=new_head)


def test_other_classes_get_a_new_head() -> None:
    small = trainer(classes=("pattern1", "pattern2"))
    small.begin_with(weights(trainer()), new_head=True)
    assert small.history == []
    assert finish(small).epoch == 3


def test_fitting_looks_at_shapes_only() -> None:
    with torch.device("meta"):
        here, there = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4))
    assert fitting_weights(here, there.state_dict(), new_head=True) == {}
    with pytest.raises(ConfigError, match=r"its 0.weight is 4×2, this one's is 3×2"):
        fitting_weights(here, there.state_dict(), new_head=False)


def test_weights_fit_a_net_without_a_linear_layer() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 1))
    assert fitting_weights(net, net.state_dict(), new_head=False).keys() == net.state_dict().keys()
    assert fitting_weights(net, net.state_dict(), new_head=True).keys() == {"0.weight", "0.bias"}
    headless = nn.Sequential(nn.BatchNorm2d(3))
    assert (
        fitting_weights(headless, headless.state_dict(), new_head=False).keys()
        == headless.state_dict().keys()
    )
    with pytest.raises(ConfigError, match="has no linear layer or convolution whose outputs are the classes"):
        fitting_weights(headless, headless.state_dict(), new_head=True)


def test_a_net_that_an_exploding_loss_killed_has_diverged() -> None:
    values = {"optimizer": "sgd", "norm": "none", "epochs": 3, "batch_size": 100}
    trained = finish(trainer(**values, lr=30.0))
    assert all(math.isfinite(epoch["train_loss"]) for epoch in trained.history)  # finite but dead
    assert trained.outcome is Outcome.DIVERGED
    assert trained.diverged_step is not None
    assert 1 <= trained.diverged_step <= 54
    dull = finish(trainer(**values, lr=1e-12))
    assert (dull.outcome, dull.diverged_step) == (Outcome.NOT_CONVERGED, None)
