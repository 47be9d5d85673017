"""Blocks: their sums, and nets made of any combination of them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import build_model, summarize, summarize_config
from lab.models.blocks import InvertedResidual, Preact, Residual

BLOCKS = [Residual, Preact, InvertedResidual]
KINDS = ["conv", "residual", "preact", "inverted_residual"]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (6, 1), (4, 2), (6, 3)])
def test_blocks_on_odd_sizes_learn_in_every_parameter(block, norm, outputs, stride) -> None:
    module = block(4, outputs, stride=stride, norm=norm)
    images = torch.randn(3, 4, 7, 5, requires_grad=True)
    output = module(images)
    assert output.shape == (3, outputs, -(-7 // stride), -(-5 // stride))
    (output**3).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("block", BLOCKS)
def test_without_convolutions_the_identity_remains(block) -> None:
    module = block(4, 4)
    _zero(module.body)
    images = torch.rand(2, 4, 5, 5)
    assert torch.equal(module(images), images)


@pytest.mark.parametrize("block", [Residual, Preact])
@pytest.mark.parametrize(("outputs", "stride"), [(6, 1), (4, 2)])
def test_without_convolutions_the_projection_remains(block, outputs, stride) -> None:
    module = block(4, outputs, stride=stride, activation=nn.Identity)
    _zero(module.body)
    images = torch.randn(2, 4, 5, 5)
    weight, bias = module.shortcut.conv.weight, module.shortcut.conv.bias  # [outputs, 4, 1, 1], [outputs]
    expected = torch.einsum("bchw,oc->bohw", images[:, :, ::stride, ::stride], weight[:, :, 0, 0])
    torch.testing.assert_close(module(images), expected + bias[:, None, None])


@pytest.mark.parametrize(("outputs", "stride"), [(6, 1), (4, 2)])
def test_an_inverted_residual_adds_only_equal_shapes(outputs, stride) -> None:
    module = InvertedResidual(4, outputs, stride=stride)
    _zero(module.body)
    assert not module(torch.randn(2, 4, 5, 5)).any()


def test_a_residual_activates_its_sum_and_a_preact_does_not() -> None:
    images = -torch.ones(1, 4, 5, 5)
    for block, expected in ((Residual, 0.0), (Preact, -1.0)):
        module = block(4, 4)
        _zero(module.body)
        assert (module(images) == expected).all()


@pytest.mark.parametrize(
    ("block", "names"),
    [
        (Residual, ["conv1", "norm1", "activation1", "conv2", "norm2", "activation2", "conv3", "norm3"]),
        (
            Preact,
            [
                *("norm1", "activation1", "conv1", "norm2", "activation2", "conv2"),
                *("norm3", "activation3", "conv3"),
            ],
        ),
    ],
)
def test_order_within_a_block(block, names) -> None:
    module = block(4, 6, depth=3, norm=nn.BatchNorm2d)
    assert [name for name, _ in module.body.named_children()] == names
    assert ("norm" in dict(module.shortcut.named_children())) is (block is Residual)


def test_an_inverted_residual_is_linear_in_its_narrow_ends() -> None:
    names = [
        name for name, _ in InvertedResidual(4, 4, expansion=2, norm=nn.BatchNorm2d).body.named_children()
    ]
    assert names == [
        *("expand", "expand_norm", "expand_activation"),
        *("depthwise", "depthwise_norm", "depthwise_activation"),
        *("project", "project_norm"),
    ]


@pytest.mark.parametrize("block", BLOCKS)
def test_bias_is_of_every_convolution(block) -> None:
    convolutions = [m for m in block(4, 6, bias=False).modules() if isinstance(m, nn.Conv2d)]
    assert all(convolution.bias is None for convolution in convolutions)


def test_expansion_is_of_the_depthwise_convolution() -> None:
    depthwise = InvertedResidual(4, 6, expansion=5).body.depthwise
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (20, 20, 20)


# nets of them


def test_conv_layers_keep_the_names_of_earlier_checkpoints() -> None:
    config = TrialConfig(depth=2, norm="batch", conv_dropout=0.1, dense=(4,), pool=(2, 1))
    features, _, classifier = build_model(config, (1, 8, 8), 10).children()
    assert [name for name, _ in features.named_children()] == [
        *("conv1", "norm1", "pool1", "activation1", "dropout1"),
        *("conv2", "norm2", "activation2", "dropout2"),
    ]
    assert list(classifier.state_dict()) == ["dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias"]


def test_what_follows_a_block_has_its_number() -> None:
    config = TrialConfig(filters=(4, 8), block=("conv", "residual"), pool=2, conv_dropout=0.1)
    names = [name for name, _ in build_model(config, (1, 8, 8), 10).features.named_children()]
    assert names == ["conv1", "pool1", "activation1", "dropout1", "block2", "pool2", "dropout2"]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_run_of_preact_blocks_ends_with_norm_and_activation_around_its_pooling(norm) -> None:
    config = TrialConfig(filters=(4,) * 4, block=("preact", "preact", "conv", "preact"), norm=norm, pool=2)
    names = [name for name, _ in build_model(config, (1, 16, 16), 10).features.named_children()]
    expected = [
        *("block1", "pool1"),
        *("block2", "norm2", "pool2", "activation2"),
        *("conv3", "norm3", "pool3", "activation3"),
        *("block4", "norm4", "pool4", "activation4"),
    ]
    assert names == [name for name in expected if norm == "batch" or not name.startswith("norm")]


def test_block_settings_reach_the_blocks() -> None:
    config = TrialConfig(
        filters=(4, 4), block=("preact", "inverted_residual"), block_depth=3, expansion=5, conv_bias=False
    )
    features = build_model(config, (1, 8, 8), 10).features
    assert sum(isinstance(module, nn.Conv2d) for module in features.block1.body) == 3
    assert features.block2.body.expand.out_channels == 20
    assert not any(name.endswith("bias") for name, _ in features.named_parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"block": "residual", "kernel_size": 4},
            r"^kernel_size: block1 \(residual\) adds its input to its output: its kernel_size must be odd, but got 4",
        ),
        (
            {"block": "preact", "kernel_size": 5, "padding": 1},
            r"^padding: block1 \(preact\) .* kernel_size 5 needs padding 2, but got 1",
        ),
        (
            {"filters": (4, 4), "block": ("conv", "inverted_residual"), "kernel_size": (3, 2)},
            r"^kernel_size: block2 \(inverted_residual\) .* must be odd, but got 2",
        ),
        (
            {"block": "inverted_residual", "kernel_size": 9, "padding": 0},
            r"^kernel_size: block1 with window 9 and padding 0 does not fit the 8 pixels left of 1×8×8 images",
        ),
        (
            {"block": "residual", "depth": 5},
            r"^pool: pool4 with window 2 and padding 0 does not fit the 1 pixels left of 1×8×8 images",
        ),
    ],
)
def test_blocks_that_cannot_be_name_layer_and_setting(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        summarize_config(TrialConfig(**values), (1, 8, 8), 10)


def test_an_inverted_residual_without_a_sum_may_change_the_size() -> None:
    config = TrialConfig(depth=1, width=4, block="inverted_residual", kernel_size=4, pool=1)
    assert build_model(config, (1, 8, 8), 10).features(torch.zeros(1, 1, 8, 8)).shape == (1, 4, 9, 9)


@st.composite
def _nets(draw: st.DrawFn) -> dict[str, Any]:
    depth = draw(st.integers(1, 4))

    def each(values: list[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=depth, max_size=depth)))

    return {
        "block": each(KINDS),
        "filters": each([1, 3, 4]),
        "kernel_size": each([1, 3, 5]),
        "stride": each([1, 2]),
        "pool": each([1, 1, 2]),
        "block_depth": draw(st.integers(1, 3)),
        "expansion": draw(st.integers(1, 3)),
        "conv_bias": draw(st.booleans()),
        "norm": draw(st.sampled_from(["none", "batch"])),
        "conv_dropout": draw(st.sampled_from([0.0, 0.2])),
    }


@settings(max_examples=30)
@given(values=_nets(), height=st.integers(1, 19), width=st.integers(1, 19))
def test_any_mixture_of_blocks_gives_its_size_or_says_what_does_not_fit(
    values: dict[str, Any], height: int, width: int
) -> None:
    config, shape = TrialConfig(**values), (2, height, width)
    sizes = [_size_after(values, size) for size in (height, width)]
    if 0 in sizes:
        with pytest.raises(ConfigError, match=rf"pool\d .* pixels left of 2×{height}×{width} images"):
            build_model(config, shape, 5)
        return
    model = build_model(config, shape, 5).eval()
    images = torch.zeros(2, *shape)
    assert model.features(images).shape == (2, values["filters"][-1], *sizes)
    assert model(images).shape == (2, 5)
    runs = [kind for kind, _ in groupby(values["block"])]
    ends = runs.count("preact") + values["block"].count("conv")
    assert sum(name.startswith("activation") for name, _ in model.features.named_children()) == ends


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_counts_of_blocks_without_allocating_are_those_of_the_model(norm: str) -> None:
    config = TrialConfig(filters=(3, 3, 4, 4), block=tuple(KINDS), pool=1, stride=(1, 2, 1, 1), norm=norm)
    assert summarize_config(config, (2, 9, 7), 5) == summarize(build_model(config, (2, 9, 7), 5), (2, 9, 7))


def _size_after(values: dict[str, Any], size: int) -> int:
    """Return the side of the last feature map; 0 if it is too small for a pooling."""
    for stride, pool in zip(values["stride"], values["pool"], strict=True):
        size = -(-size // stride) // pool
    return size


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
