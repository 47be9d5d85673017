"""Layers around slow kernels: the same numbers, computed another way."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.models import build_model
from lab.models.kernels import Flatten, avoid_slow_kernels


def _gradients(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    images = images.clone().requires_grad_()
    (model(images).float() ** 2).sum().backward()
    return images.grad, *(parameter.grad for parameter in model.parameters())


def _maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator).contiguous(memory_format=torch.channels_last)


def test_flatten_returns_gradients_in_the_order_of_maps() -> None:
    maps = _maps(2, 3, 4, 4).requires_grad_()
    factors = torch.arange(96.0).view(2, 48)
    flat = Flatten()(maps)
    (gradient,) = torch.autograd.grad((flat * factors).sum(), maps)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(flat, maps.flatten(1))
    assert torch.equal(gradient, factors.view(2, 3, 4, 4))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_relu_after_its_pooling_changes_no_bit(norm: str) -> None:
    torch.manual_seed(0)
    config = TrialConfig(filters=(4, 6), padding=(1, 0), norm=norm, pool=2, dense=(8,))
    model = build_model(config, (3, 13, 13), 10).to(memory_format=torch.channels_last)
    assert list(dict(model.features.named_children()))[-2:] == ["pool2", "activation2"]
    before = deepcopy(model)
    layers = dict(before.features.named_children())
    names = [f"{kind}{n}" for n in (1, 2) for kind in ("conv", "norm", "activation", "pool")]
    before.features = nn.Sequential(*(layers[name] for name in names if name in layers))
    before.head = nn.Flatten()
    images = _maps(8, 3, 13, 13)
    for ours, theirs in zip(_gradients(model, images), _gradients(before, images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options", [{"activation": "gelu"}, {"activation": "leaky_relu"}, {"pool_type": "avg"}], ids=str
)
def test_other_activations_come_before_their_pooling(options: dict[str, str]) -> None:
    features = build_model(TrialConfig(filters=(4,), pool=2, **options), (1, 8, 8), 10).features
    assert list(dict(features.named_children())) == ["conv1", "activation1", "pool1"]


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 2), (5, 1)])
def test_a_slow_depthwise_convolution_computes_in_fp32_under_autocast(kernel_size: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, kernel_size, stride, groups=8))
    ours = deepcopy(plain)
    avoid_slow_kernels(ours)
    images = _maps(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, exact = plain(images), ours(images)
        assert ours(images.bfloat16()).dtype is torch.bfloat16
    assert torch.equal(exact, plain(images))
    assert not torch.equal(rounded.float(), exact)
    assert list(ours.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, 2, groups=4), nn.Conv2d(8, 8, 3, 2)], ids=str
)
def test_other_convolutions_stay_as_they_are(layer: nn.Conv2d) -> None:
    model = nn.Sequential(deepcopy(layer))
    avoid_slow_kernels(model)
    assert type(model[0]) is nn.Conv2d


def test_without_autocast_a_depthwise_convolution_is_torchs() -> None:
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, 2, groups=8))
    ours = deepcopy(plain)
    avoid_slow_kernels(ours)
    images = _maps(2, 8, 9, 9)
    for a, b in zip(_gradients(ours, images), _gradients(plain, images), strict=True):
        assert torch.equal(a, b)


def test_the_nets_of_inverted_residuals_avoid_them() -> None:
    with torch.device("meta"):
        model = build_model(TrialConfig(preset="mobile1"), (3, 32, 32), 10)
    avoiding = [name for name, m in model.named_modules() if type(m).__name__ == "_Float32Conv2d"]
    assert avoiding == ["features.block3.body.depthwise", "features.block5.body.depthwise"]
