"""Models: what can be built, sizes that are refused, correct counts and tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.config import PRESETS, TrialConfig, parse_config
from lab.errors import ConfigError
from lab.models import build_model, summarize, summarize_config
from lab.registry import activations

CIFAR = ((3, 32, 32), 10)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_computes(preset: str) -> None:
    logits = build_model(TrialConfig(preset=preset), *CIFAR)(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("activation", sorted(activations))
def test_every_activation_builds_in_both_parts(activation: str) -> None:
    config = TrialConfig(activation=activation, dense=(16,))
    assert build_model(config, (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).isfinite().all()


def test_conv_and_dense_activations_are_chosen_separately() -> None:
    config = TrialConfig(depth=1, activation="relu", dense=(16,), dense_activation="leaky relu")
    types = [layer.type for layer in summarize_config(config, (1, 8, 8), 10).layers]
    assert types == ["Conv2d", "MaxPool2d", "ReLU", "Flatten", "Linear", "LeakyReLU", "Linear"]


def test_norm_and_dropout_stand_where_they_belong() -> None:
    config = TrialConfig(
        depth=1, norm="batch", conv_dropout=0.1, dense=(16,), dense_norm="batch", dropout=0.5
    )
    types = [layer.type for layer in summarize_config(config, (1, 8, 8), 10).layers]
    conv = ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU", "Dropout2d"]
    assert types == [*conv, "Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def test_dropout_with_one_dense_layer_stands_before_it() -> None:
    types = [layer.type for layer in summarize_config(TrialConfig(dropout=0.5), (1, 8, 8), 10).layers]
    assert types[-2:] == ["Dropout", "Linear"]


def test_dropout_as_a_list_gives_one_each() -> None:
    config = TrialConfig(dense=(16, 16), dropout=(0.1, 0.0, 0.3))
    rates = [m.p for m in build_model(config, (1, 8, 8), 10).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.1, 0.3]


def test_global_average_pooling_frees_the_dense_part_from_the_image_size() -> None:
    config = TrialConfig(head="global_avg_pool", width=8)
    sizes = {summarize_config(config, (3, size, size), 10).params for size in (16, 32, 64)}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"depth": 5},
            r"pool: pool4 with window 2 and padding 0 does not fit the 1 pixels left of 1×8×8 images",
        ),
        (
            {"kernel_size": 9, "padding": 0},
            r"kernel_size: conv1 with window 9 and padding 0 does not fit the 8",
        ),
        ({"pool": (1, 16)}, r"pool: pool2 with window 16"),
    ],
)
def test_what_collapses_names_the_layer(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        summarize_config(TrialConfig(**values), (1, 8, 8), 10)


@given(
    depth=st.integers(1, 3),
    width=st.integers(1, 8),
    kernel=st.sampled_from([1, 3, 5]),
    norm=st.sampled_from(["none", "batch"]),
    dense=st.lists(st.integers(1, 16), max_size=2),
    head=st.sampled_from(["flatten", "global_avg_pool"]),
)
@settings(max_examples=25)
def test_counts_without_allocating_are_those_of_the_model(
    depth: int, width: int, kernel: int, norm: str, dense: list[int], head: str
) -> None:
    config = TrialConfig(depth=depth, width=width, kernel_size=kernel, norm=norm, dense=dense, head=head)
    model = build_model(config, (3, 16, 16), 7)
    counted = summarize_config(config, (3, 16, 16), 7)
    assert counted == summarize(model, (3, 16, 16))
    assert counted.params == sum(p.numel() for p in model.parameters())
    assert sum(layer.params for layer in counted.layers) == counted.params
    assert tuple(model(torch.zeros(2, 3, 16, 16)).shape[1:]) == counted.layers[-1].output_shape


def test_mult_adds_of_one_convolution_by_hand() -> None:
    config = TrialConfig(depth=1, width=4, pool=1, head="global_avg_pool")
    assert summarize_config(config, (3, 10, 10), 5).mult_adds == 10 * 10 * 4 * 3 * 3 * 3 + 4 * 5


def test_summarize_leaves_the_model_as_it_was() -> None:
    model = build_model(TrialConfig(norm="batch"), (1, 8, 8), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summarize(model, (1, 8, 8))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_table_names_every_layer_and_the_totals() -> None:
    table = summarize_config(TrialConfig(preset="lenet"), *CIFAR).table()
    assert "features.conv1" in table
    assert "classifier.dense3" in table
    assert "params 62,006" in table
    assert "mult-adds 0.65 M" in table


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"dense": [8], "dense_norm": "batch"}, "dense_norm=batch"),
        (
            {"norm": "batch", "filters": [4, 4, 4], "pool": [4, 2, 1]},
            "norm=batch",
        ),  # reduces 8×8 to 1×1
        ({"architecture": "resnet18", "stem": "imagenet"}, "architecture=resnet18"),
    ],
)
def test_batches_of_one_image_are_refused_where_batch_norm_gets_one_value(
    values: dict[str, Any], settings: str
) -> None:
    shape = (1, 8, 8)
    config = parse_config({**values, "batch_size": 1})
    with pytest.raises(
        ConfigError, match=rf"^batch_size: batch_size=1 does not work with {settings}: .*2 or more"
    ):
        summarize_config(config, shape, 4)
    model = build_model(config, shape, 4).train()
    with pytest.raises(
        ValueError, match="Expected more than 1 value per channel"
    ):  # how it would fail otherwise
        model(torch.zeros(1, *shape))
    assert summarize_config(parse_config({**values, "batch_size": 2}), shape, 4).params


@pytest.mark.parametrize(
    "values",
    [
        {"norm": "batch"},
        {"dense_norm": "batch"},
        {"dense": [8], "dense_norm": "batch", "freeze": "all_but_head"},
    ],
)
def test_batches_of_one_image_serve_where_there_is_more_than_one_value(values: dict[str, Any]) -> None:
    config = parse_config({**values, "batch_size": 1})
    assert summarize_config(config, (1, 8, 8), 4).params
