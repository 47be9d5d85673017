"""Nets of users: whatever an nn.Module may be is built, counted and has a head, or is refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import build_model, skeleton, summarize_config
from lab.registry import Entry

SHAPE, CLASSES = (3, 8, 8), 5


@pytest.fixture
def config_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], TrialConfig]:
    """Return the config of the net that a function builds."""

    def registered(build: Callable[..., object]) -> TrialConfig:
        entries = {**registry.architectures._entries, "mine": Entry("mine", build, plain=True)}
        monkeypatch.setattr(registry.architectures, "_entries", entries)
        monkeypatch.setattr("lab.models.build._summaries", {})
        return TrialConfig(architecture="mine", threads=1)

    return registered


def with_stochastic_depth(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build it as nets of papers do: the rates are numbers of a tensor."""
    rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
    return nn.Sequential(*map(nn.Dropout, rates), nn.Flatten(), nn.Linear(math.prod(shape), classes))


def with_numbers_of_numpy(shape: tuple[int, int, int], classes: int) -> nn.Module:
    width = int(np.asarray(torch.ones(4)).sum())
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Linear(width, classes))


def with_chosen_values(shape: tuple[int, int, int], classes: int) -> nn.Module:
    width = len(torch.ones(4).nonzero())
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Linear(width, classes))


def lazy(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


BUILDERS = [with_stochastic_depth, with_numbers_of_numpy, with_chosen_values, lazy]


@pytest.mark.parametrize("build", BUILDERS)
def test_a_net_is_counted_without_being_allocated(
    build: Callable[..., nn.Module], config_of: Callable[..., TrialConfig]
) -> None:
    config = config_of(build)
    state = torch.get_rng_state()
    assert {parameter.device.type for parameter in skeleton(config, SHAPE, CLASSES).parameters()} == {"meta"}
    summary = summarize_config(config, SHAPE, CLASSES)
    assert torch.equal(torch.get_rng_state(), state)
    model = build_model(config, SHAPE, CLASSES)
    assert model.training
    assert summary.params == sum(parameter.numel() for parameter in model.parameters())
    assert model(torch.randn(2, *SHAPE)).shape == (2, CLASSES)


def test_what_a_constructor_raises_is_raised_as_without_lab(config_of: Callable[..., TrialConfig]) -> None:
    def wrong(shape: tuple[int, int, int], classes: int) -> nn.Module:
        raise RuntimeError(f"no value: {torch.ones(1).item()}")

    with pytest.raises(RuntimeError, match=r"^no value: 1\.0$") as raised:
        skeleton(config_of(wrong), SHAPE, CLASSES)
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "chosen",
    [lambda images: images.mean() > 0, lambda images: images.numpy().any(), lambda images: images.tolist()],
)
def test_a_net_that_reads_values_in_forward_is_refused(
    config_of: Callable[..., TrialConfig], chosen: Callable[[Tensor], object]
) -> None:
    class Gated(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flatten(1) if chosen(images) else -images.flatten(1))

    with pytest.raises(ConfigError, match=r"^architecture: 'mine' reads the values .* torch\.where$"):
        summarize_config(config_of(lambda shape, classes: Gated(math.prod(shape), classes)), SHAPE, CLASSES)


def test_what_forward_raises_is_raised_as_without_lab(config_of: Callable[..., TrialConfig]) -> None:
    def narrow(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Bilinear(3, 3, classes))

    with pytest.raises(TypeError, match=r"missing 1 required positional argument"):
        summarize_config(config_of(narrow), SHAPE, CLASSES)


def test_a_net_without_parameters_is_refused(config_of: Callable[..., TrialConfig]) -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :CLASSES]

    with pytest.raises(ConfigError, match=r"^architecture: 'mine' has no parameters to train$"):
        summarize_config(config_of(lambda shape, classes: Mean()), SHAPE, CLASSES)
