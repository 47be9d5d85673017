"""What changes the weights: steps from several batches, averages of weights, compiled models."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab import registry
from lab.errors import ConfigError
from lab.registry import Entry
from lab.training import Trainer, evaluate
from lab.training.accumulation import Part, count_steps, parts
from tests.trainers import finish, new_trainer, stopped_after

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "depth": 1,
    "width": 4,
    "batch_size": 200,
    "epochs": 2,
    "patience": None,
    "lr": 0.01,
    "threads": 1,
}


def trainer(**values: Any) -> Trainer:
    return new_trainer(**{**TINY, **values})


def test_parts_of_steps() -> None:
    assert parts([8, 8, 8, 4], 1) == [Part(True, True, 1.0)] * 4
    assert parts([8, 8, 8, 2, 6], 3) == [
        *(Part(True, False, 1 / 3), Part(False, False, 1 / 3), Part(False, True, 1 / 3)),
        *(Part(True, False, 0.25), Part(False, True, 0.75)),
    ]
    assert [count_steps(batches, 3) for batches in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_accumulated_batches_learn_as_one_large_batch(precision: str) -> None:
    """Synthetic data leaves 1,800 images: nine batches of 200 make steps of 600."""
    values = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "clip_grad_norm": 0.3, "precision": precision}
    large = finish(trainer(batch_size=600, **values))
    small = finish(trainer(batch_size=200, accumulate=3, **values))
    for one, other in zip(large.model.parameters(), small.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5 if precision == "fp32" else 5e-3)
    assert small.history[-1]["train_loss"] == pytest.approx(large.history[-1]["train_loss"], rel=1e-2)


def test_an_incomplete_step_is_done_at_the_end_of_the_epoch() -> None:
    steps = finish(trainer(accumulate=4, epochs=1))._learner.optimizer.state_dict()["state"][0]["step"]
    assert steps.item() == 3  # 4 + 4 + 1 batches


def test_a_clipped_gradient_moves_the_weights_by_no_more() -> None:
    trained = trainer(optimizer="sgd", lr=1.0, clip_grad_norm=0.001, epochs=1)
    before = [p.detach().clone() for p in trained.model.parameters()]
    finish(trained)
    moved = [(p - old).square().sum() for p, old in zip(trained.model.parameters(), before, strict=True)]
    assert 0 < sum(moved).sqrt().item() <= 9 * 0.001 * 1.0001  # nine steps of lr 1


def test_a_loss_per_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Entry("each", lambda images: torch.nn.CrossEntropyLoss(reduction="none"))
    monkeypatch.setattr(registry.losses, "_entries", {**registry.losses._entries, "each": own})
    message = r"loss: 'each' must give a single number, .* but it gives a tensor of shape \[200\]"
    with pytest.raises(ConfigError, match=message):
        finish(trainer(loss="each"))


def test_the_average_is_torchs_and_is_what_is_evaluated_and_kept() -> None:
    trained = trainer(ema_decay=0.8, norm="batch")
    expected = AveragedModel(trained.model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    trained._learner.optimizer.register_step_post_hook(
        lambda *_arguments: expected.update_parameters(trained.model)
    )
    history = list(islice(trained.epochs(), 2))
    weights = expected.module.state_dict()
    assert trained.dataset.val is not None
    at_end = evaluate(expected.module, trained.dataset.val, trained.dataset, trained.config)
    assert at_end.loss == pytest.approx(history[-1].metrics["val_loss"])
    assert not torch.equal(
        trained.model.state_dict()["features.conv1.weight"], weights["features.conv1.weight"]
    )
    for name, tensor in trained._learner.kept.items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, weights[name]), name
        else:
            assert tensor.item() == 18  # steps, not an average of their numbers
    assert trained._best_weights is not None
    assert trained._best_weights.keys() == trained.model.state_dict().keys()
    trained._best_weights = None  # as if no epoch had been the best, for want of its `monitor`
    trained.restore_best()
    assert torch.equal(
        trained.model.state_dict()["features.conv1.weight"], trained._learner.kept["features.conv1.weight"]
    )


def test_the_state_of_what_is_used_must_be_there() -> None:
    for used, key in ({"ema_decay": 0.9}, "average"), ({"precision": "fp16"}, "scaler"):
        state = finish(trainer(**used)).state_dict()
        for wrong in ({key: None}, {key: {"begun": 1}}):
            with pytest.raises(ValueError, match=f"the checkpoint's {key} is malformed"):
                trainer(**used).load_state_dict(state | wrong)


@pytest.mark.parametrize("wrong", [None, {"features.conv1.weight": torch.zeros(3)}, {"nothing": None}])
def test_gradients_are_there_between_batches_and_only_then(wrong: Any) -> None:
    state = stopped_after(1, **TINY, accumulate=2).state_dict()
    trainer(accumulate=2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"the checkpoint's gradients.* is malformed"):
        trainer(accumulate=2).load_state_dict(state | {"gradients": wrong})
    with pytest.raises(ValueError, match="the checkpoint's gradients is malformed"):
        trainer(accumulate=2).load_state_dict(finish(trainer(accumulate=2)).state_dict() | {"gradients": {}})


def test_checkpoints_of_earlier_versions_lack_what_they_could_not_use() -> None:
    trained = trainer()
    next(trained.epochs())
    state = trained.state_dict()
    for key in ("scaler", "average", "gradients"):
        assert state.pop(key) is None
    again = trainer()
    again.load_state_dict(state)
    assert again.epoch == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [{}, {"ema_decay": 0.9, "norm": "batch", "dropout": 0.2, "dense": (8,)}], ids=str
)
def test_a_compiled_model_learns_the_same_and_continues_to_the_last_bit(values: dict[str, Any]) -> None:
    values = {**values, "compile": True, "batch_size": 250}  # the last batch is smaller
    whole = finish(trainer(**values))
    plain = finish(trainer(**values | {"compile": False}))
    assert whole.model.state_dict().keys() == plain.model.state_dict().keys()
    if not values.get("dropout"):  # compiled, it draws others
        assert whole.history[0]["val_loss"] == pytest.approx(plain.history[0]["val_loss"], rel=1e-3)
    state = stopped_after(7, **{**TINY, **values}).state_dict()  # only the smaller batch is left
    torch.manual_seed(999)
    again = trainer(**values)
    again.load_state_dict(state)
    finish(again)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
