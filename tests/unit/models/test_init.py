"""Weight initialisation: the spread of each scheme, zero biases, unchanged norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lab.config import TrialConfig
from lab.models import build_model


def _model(init: str, **values: object) -> nn.Module:
    torch.manual_seed(0)
    settings = {"filters": (32, 32), "norm": "batch", "dense": (64,), **values}
    return build_model(TrialConfig(init=init, **settings), (3, 16, 16), 10)


def _layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def test_default_is_what_torch_draws() -> None:
    model = _model("default")
    torch.manual_seed(0)
    first = nn.Conv2d(3, 32, 3, padding=1)
    assert torch.equal(model.features.conv1.weight, first.weight)
    assert torch.equal(model.features.conv1.bias, first.bias)


def test_kaiming_has_deviation_sqrt_of_two_over_fan_in() -> None:
    for layer in _layers(_model("kaiming")):
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.15)


def test_xavier_fills_its_bounds() -> None:
    for layer in _layers(_model("xavier")):
        out, field = layer.weight.shape[0], layer.weight[0, 0].numel()
        bound = math.sqrt(6 / (layer.weight[0].numel() + out * field))
        assert 0.97 * bound < layer.weight.abs().max().item() <= bound


@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_biases_become_zero_and_norms_stay(init: str) -> None:
    model = _model(init)
    assert not any(layer.bias.any() for layer in _layers(model))
    assert (model.features.norm1.weight == 1).all()
    assert not model.features.norm1.bias.any()


@pytest.mark.parametrize("init", ["kaiming", "xavier"])
def test_blocks_and_convolutions_without_bias_are_drawn_too(init: str) -> None:
    values = {"block": ("residual", "inverted_residual"), "conv_bias": False}
    default, drawn = _layers(_model("default", **values)), _layers(_model(init, **values))
    assert all(not torch.equal(a.weight, b.weight) for a, b in zip(default, drawn, strict=True))


@pytest.mark.parametrize("init", ["default", "kaiming", "xavier"])
def test_the_same_seed_draws_the_same_weights(init: str) -> None:
    first, second = _model(init).state_dict(), _model(init).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
