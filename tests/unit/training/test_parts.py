"""Optimizers, schedules, losses and devices: every registered name builds and does what its name says."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.registry import Entry, losses, optimizers, registry_of, schedulers
from lab.training import device, resolve_device, use_threads
from lab.training.losses import build_loss
from lab.training.optimizers import build_optimizer
from lab.training.outcome import at_chance
from lab.training.schedulers import build_schedule


def build(config: TrialConfig) -> None:
    build_loss(config, torch.ones(2))
    build_schedule(config, build_optimizer(config, one_parameter()), 1)


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("loss", lambda images: 3, "loss: 'mine' must return an nn.Module, but got 3"),
        (
            "optimizer",
            lambda params, lr: None,
            r"optimizer: 'mine' must return a torch\.optim\.Optimizer, but got None",
        ),
        (
            "scheduler",
            lambda optimizer: None,
            "scheduler: 'mine' must return an LRScheduler that moves by epochs, but got NoneType",
        ),
        (
            "scheduler",
            torch.optim.lr_scheduler.ReduceLROnPlateau,
            "but got ReduceLROnPlateau, which moves by a metric",
        ),
    ],
)
def test_what_a_plugin_gives_is_checked(
    kind: str, target: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = registry_of(kind)
    monkeypatch.setattr(names, "_entries", {**names._entries, "mine": Entry("mine", target, plain=True)})
    with pytest.raises(ConfigError, match=message):
        build(TrialConfig(**{kind: "mine"}))


@pytest.mark.parametrize("values", [{}, {"warmup_epochs": 1}, {"scheduler": "one_cycle"}], ids=str)
def test_a_schedule_may_move_before_the_optimizers_first_step(values: dict[str, Any]) -> None:
    """As in a trial that continues at the end of its first epoch, of which torch would warn."""
    config = TrialConfig(**values)
    schedule = build_schedule(config, build_optimizer(config, one_parameter()), 2)
    with warnings.catch_warnings(action="error"):
        schedule.after_step()
        schedule.after_epoch({})


def one_parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize("name", sorted(optimizers))
def test_every_optimizer_builds_and_moves(name: str) -> None:
    (parameter,) = parameters = one_parameter()
    optimizer = build_optimizer(TrialConfig(optimizer=name, lr=0.1), parameters)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert (parameter < 1).all()


def test_optimizer_takes_its_options() -> None:
    config = TrialConfig(optimizer="sgd", lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01)
    group = build_optimizer(config, one_parameter()).param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        0.3,
        0.9,
        True,
        0.01,
    )


def rates(config: TrialConfig, epochs: int, steps: int = 4, monitored: float = 0.5) -> list[float]:
    optimizer = build_optimizer(config, one_parameter())
    schedule = build_schedule(config, optimizer, steps)
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        for _ in range(steps):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch({"val_accuracy": monitored, "val_loss": monitored})
    return seen


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"scheduler": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        ({"scheduler": "exponential", "gamma": 0.5}, [1.0, 0.5, 0.25, 0.125]),
        ({"scheduler": "step", "gamma": 0.1, "step_size": 2}, [1.0, 1.0, 0.1, 0.1]),
        ({"scheduler": "cosine", "epochs": 4}, [(1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]),
        ({"scheduler": "plateau", "gamma": 0.1, "scheduler_patience": 1}, [1.0, 1.0, 1.0, 0.1]),
        (
            {"scheduler": "plateau", "scheduler_monitor": "val_loss", "monitor": "train_accuracy"}
            | {"gamma": 0.5, "scheduler_patience": 0},
            [1.0, 1.0, 0.5, 0.25],
        ),
    ],
)
def test_rates_by_epoch(values: dict[str, object], expected: list[float]) -> None:
    assert rates(TrialConfig(lr=1.0, **values), 4) == pytest.approx(expected)


def test_one_cycle_rises_to_lr_and_falls() -> None:
    seen = rates(
        TrialConfig(lr=1.0, scheduler="one_cycle", epochs=10, optimizer="sgd", momentum=0.9), 10, steps=5
    )
    peak = seen.index(max(seen))
    assert 0 < peak < 9
    assert max(seen) == pytest.approx(1.0, rel=0.05)
    assert seen[:peak] == sorted(seen[:peak])
    assert seen[peak:] == sorted(seen[peak:], reverse=True)


@pytest.mark.parametrize("name", sorted(schedulers))
def test_every_schedule_continues_from_its_state(name: str) -> None:
    config = TrialConfig(scheduler=name, lr=1.0, epochs=6)
    optimizer = build_optimizer(config, one_parameter())
    schedule = build_schedule(config, optimizer, 2)
    again = build_optimizer(config, one_parameter())
    continued = build_schedule(config, again, 2)
    for epoch in range(6):
        if epoch == 3:
            again.load_state_dict(optimizer.state_dict())
            continued.load_state_dict(schedule.state_dict())
        for one, its in (
            ((optimizer, schedule), (again, continued)) if epoch >= 3 else ((optimizer, schedule),)
        ):
            for _ in range(2):
                one.step()
                its.after_step()
            its.after_epoch({"val_accuracy": 0.5})
    assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"scheduler": "constant"}, [0.125, 0.625, 1.0, 1.0, 1.0, 1.0]),
        ({"scheduler": "exponential", "gamma": 0.5}, [0.125, 0.625, 1.0, 0.5, 0.25, 0.125]),
        (
            {"scheduler": "cosine", "epochs": 6},
            [0.125, 0.625, *((1 + math.cos(math.pi * e / 4)) / 2 for e in range(4))],
        ),
        (
            {"scheduler": "plateau", "gamma": 0.1, "scheduler_patience": 1},
            [0.125, 0.625, 1.0, 1.0, 1.0, 0.1],
        ),
    ],
)
def test_a_warm_up_rises_by_steps_to_where_the_schedule_begins(
    values: dict[str, object], expected: list[float]
) -> None:
    assert rates(TrialConfig(lr=1.0, warmup_epochs=2, **values), 6) == pytest.approx(expected)


def test_a_warm_up_leads_to_the_start_of_one_cycle() -> None:
    config = TrialConfig(lr=1.0, scheduler="one_cycle", epochs=8, warmup_epochs=2)
    plain = TrialConfig(lr=1.0, scheduler="one_cycle", epochs=6)
    assert rates(config, 8)[2:] == pytest.approx(rates(plain, 6))


def test_a_warm_up_must_leave_epochs_for_the_schedule() -> None:
    with pytest.raises(ConfigError, match="warmup_epochs: must be less than epochs=3, but got 3"):
        TrialConfig(epochs=3, warmup_epochs=3)


@pytest.mark.parametrize("name", sorted(schedulers))
def test_every_schedule_keeps_the_ratio_of_two_groups(name: str) -> None:
    config = TrialConfig(scheduler=name, lr=0.1, epochs=5, warmup_epochs=1)
    (one,), (other,) = one_parameter(), one_parameter()
    groups = [{"params": [one]}, {"params": [other], "lr": 0.01}]
    optimizer = build_optimizer(config, groups)
    schedule = build_schedule(config, optimizer, 3)
    for _ in range(4):
        for _ in range(3):
            optimizer.step()
            schedule.after_step()
            first, second = (group["lr"] for group in optimizer.param_groups)
            assert second == pytest.approx(first / 10)
        schedule.after_epoch({"val_accuracy": 0.5})


@pytest.mark.parametrize("name", sorted(losses))
def test_every_loss_is_a_mean(name: str) -> None:
    loss = build_loss(TrialConfig(loss=name), torch.tensor([5, 2, 3]))
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert loss(logits, labels).item() == pytest.approx(loss(logits.repeat(2, 1), labels.repeat(2)).item())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", sorted(losses))
def test_a_label_is_a_share_of_one(name: str, smoothing: float) -> None:
    loss = build_loss(TrialConfig(loss=name, label_smoothing=smoothing), torch.tensor([5, 2, 3]))
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert loss(logits, F.one_hot(labels, 3).float()).item() == pytest.approx(loss(logits, labels).item())


@pytest.mark.parametrize("name", sorted(losses))
def test_every_loss_takes_shares(name: str) -> None:
    """Twice the same image with one label each is one image with both labels, half each."""
    loss = build_loss(TrialConfig(loss=name), torch.tensor([1, 1, 1]))
    logits = torch.randn(4, 3)
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    both = (F.one_hot(first, 3) + F.one_hot(second, 3)) / 2
    apart = loss(logits.repeat(2, 1), torch.cat((first, second)))
    bend = 0.0  # of a loss that is not linear in the shares
    if name == "mse":
        bend = ((F.one_hot(first, 3) - both) ** 2).mean().item()
    assert loss(logits, both).item() == pytest.approx(apart.item() - bend, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_counts_what_is_classified_well_less(gamma: float) -> None:
    loss = build_loss(TrialConfig(loss="focal", focal_gamma=gamma), torch.tensor([1, 1, 1]))
    logits, labels = 3 * torch.randn(50, 3), torch.randint(3, (50,))
    right = logits.softmax(1)[range(50), labels]  # probability of the right class
    expected = ((1 - right) ** gamma * -right.log()).mean()
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_has_finite_slopes_where_the_net_is_certain(gamma: float) -> None:
    loss = build_loss(TrialConfig(loss="focal", focal_gamma=gamma), torch.tensor([1, 1]))
    logits = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0], [40.0, 0.0]], requires_grad=True)
    loss(logits, torch.tensor([0, 0, 0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_label_smoothing_reaches_the_loss() -> None:
    logits, labels = torch.tensor([[5.0, 0.0]]), torch.tensor([0])
    images = torch.tensor([1, 1])
    plain, smooth = (build_loss(TrialConfig(label_smoothing=s), images)(logits, labels) for s in (0.0, 0.2))
    assert smooth > plain


def test_balanced_cross_entropy_weighs_classes_as_scikit_learn_does() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    loss = build_loss(TrialConfig(loss="balanced_cross_entropy"), torch.bincount(labels, minlength=5))
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels.numpy())
    # scikit-learn knows three classes, the net five
    weights = {0: expected[0] * 3 / 5, 1: expected[1] * 3 / 5, 2: 0.0, 3: expected[2] * 3 / 5, 4: 0.0}
    assert loss.weight.tolist() == pytest.approx(list(weights.values()))


def test_balanced_cross_entropy_counts_every_class_the_same() -> None:
    logits, labels = torch.randn(10, 2), torch.tensor([0] * 9 + [1])
    loss = build_loss(TrialConfig(loss="balanced_cross_entropy"), torch.tensor([9, 1]))
    apart = [F.cross_entropy(logits[labels == label], labels[labels == label]) for label in (0, 1)]
    assert loss(logits, labels).item() == pytest.approx(sum(apart).item() / 2, rel=1e-5)


def test_mse_is_the_distance_from_one_hot() -> None:
    loss = build_loss(TrialConfig(loss="mse"), torch.tensor([1, 1, 1]))
    assert loss(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])).item() == 0
    assert loss(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([2])).item() == pytest.approx(2 / 3)


def test_mse_smooths_as_cross_entropy_does() -> None:
    loss = build_loss(TrialConfig(loss="mse", label_smoothing=0.3), torch.tensor([1, 1, 1]))
    assert loss(torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([0])).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_the_device_lacks(precision: str) -> None:
    with pytest.raises(
        ConfigError, match=f"precision: {precision} is not supported on meta; use precision=fp32"
    ):
        resolve_device(TrialConfig(precision=precision).model_copy(update={"device": "meta"}))


def test_where_nothing_can_be_compiled_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_function: object) -> object:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    device._why_not_compiled.cache_clear()
    with pytest.raises(
        ConfigError, match=r"compile: .* \(No working C\+\+ compiler found\); use compile=false"
    ):
        resolve_device(TrialConfig(device="cpu", compile=True))
    device._why_not_compiled.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [("xpu:7", "device: 'xpu:7' cannot be used here"), ("cuda:7", "device: 'cuda:7' cannot be used here")],
)
def test_a_device_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_device(TrialConfig(device=name))


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        assert use_threads(TrialConfig(threads=1)) == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("accuracy", "expected"), [(0.10, True), (0.11, True), (0.12, False), (0.9, False), (0.0, True)]
)
def test_at_chance_allows_for_three_standard_errors(accuracy: float, expected: bool) -> None:
    assert at_chance(accuracy, majority=0.1, images=5000) is expected


def test_all_of_a_few_images_are_not_right_by_chance() -> None:
    assert not at_chance(1.0, majority=0.5, images=4)
    assert at_chance(0.75, majority=0.5, images=4)
    assert at_chance(1.0, majority=1.0, images=4)
