"""Freezing: which layers form a block, and that frozen blocks do not change."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import (
    build_model,
    freeze,
    frozen_modules,
    head_modules,
    summarize,
    summarize_config,
)
from lab.models.parts import parts_from_groups

SHAPE = (1, 8, 8)
VALUES = {
    "filters": (2, 3, 4),
    "block": ("conv", "residual", "preact"),
    "pool": (2, 1, 1),
    "norm": "batch",
    "dense": (6, 5),
    "dense_norm": "batch",
    "dropout": 0.5,
}
BLOCKS = [
    ["features.conv1", "features.norm1", "features.pool1", "features.activation1"],
    ["features.block2"],
    ["features.block3", "features.norm3", "features.activation3"],
    ["classifier.dense1", "classifier.norm1", "classifier.activation1"],
    ["classifier.dropout2", "classifier.dense2", "classifier.norm2", "classifier.activation2"],
]


def _model(**values: object) -> nn.Module:
    return build_model(TrialConfig(**{**VALUES, **values}), SHAPE, 10)


def _names(model: nn.Module, modules: list[nn.Module]) -> list[str]:
    names = {module: name for name, module in model.named_modules()}
    return [names[module] for module in modules]


def test_blocks_and_the_head_are_all_parameters_once() -> None:
    model = _model()
    parts = [*frozen_modules(model, "all_but_head"), *head_modules(model).values()]
    assert sorted(id(p) for part in parts for p in part.parameters()) == sorted(
        id(p) for p in model.parameters()
    )


@pytest.mark.parametrize("frozen", [1, 2, 3, 4, 5])
def test_the_first_blocks_are_frozen_and_no_others(frozen: int) -> None:
    model = _model(freeze=frozen)
    expected = [name for block in BLOCKS[:frozen] for name in block]
    assert _names(model, frozen_modules(model, frozen)) == expected
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is not any(name.startswith(f"{module}.") for module in expected)


def test_none_is_frozen_by_default() -> None:
    model = _model()
    assert frozen_modules(model, "none") == []
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ["cnn", "resnet18"])
def test_all_but_the_head_leaves_the_last_linear_layer(architecture: str) -> None:
    model = build_model(TrialConfig(architecture=architecture, freeze="all_but_head"), SHAPE, 10)
    ((name, head),) = head_modules(model).items()
    assert name == "classifier.dense1"
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == [f"{name}.weight", f"{name}.bias"]
    assert isinstance(head, nn.Linear)
    assert head.out_features == 10


def test_more_blocks_than_there_are_is_an_error() -> None:
    message = (
        r"^freeze: must be at most 5: the model has 5 blocks besides its head "
        r"\(conv1, block2, block3, dense1, dense2\), but got 6$"
    )
    with pytest.raises(ConfigError, match=message):
        _model(freeze=6)


def test_the_blocks_of_a_deep_net_are_abridged() -> None:
    config = TrialConfig(architecture="resnet101", freeze=99)
    with pytest.raises(
        ConfigError, match=r"34 blocks besides its head \(conv1, block2, block3, …, block34\)"
    ):
        summarize_config(config, SHAPE, 10)


def test_a_frozen_block_in_evaluation_mode_stays_as_it_is() -> None:
    model = _model(freeze=4)
    modules = [model.get_submodule(name) for block in BLOCKS[:4] for name in block]
    before = [{name: value.clone() for name, value in m.state_dict().items()} for m in modules]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
    for module in model.train() and frozen_modules(model, 4):
        module.eval()
    head = model.get_parameter("classifier.dense3.weight").clone()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, *SHAPE)).square().sum().backward()
        optimizer.step()
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    assert not torch.equal(head, model.get_parameter("classifier.dense3.weight"))


@pytest.mark.parametrize("frozen", ["none", "all_but_head", 1, 4])
def test_the_summary_counts_what_is_trained(frozen: int | str) -> None:
    config = TrialConfig(**{**VALUES, "freeze": frozen})
    summary = summarize_config(config, SHAPE, 10)
    assert summary == summarize(build_model(config, SHAPE, 10), SHAPE)
    assert (summary.trainable_params == summary.params) is (frozen == "none")


def test_parts_without_parameters_are_no_block() -> None:
    features = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU()
    )  # named by position
    model = nn.Sequential(OrderedDict(features=features, classifier=nn.Sequential(nn.Linear(2, 3))))
    assert frozen_modules(model, 1) == [features[0]]
    assert frozen_modules(model, "all_but_head") == [features[0], features[2]]


def test_the_blocks_of_a_model_of_other_parts_are_its_children() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5), nn.Linear(5, 3)
    )
    assert frozen_modules(model, 2) == [model[0], model[1], model[4]]
    assert freeze(model, 1) == [model[0], model[1]]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 4 + [True] * 4
    with pytest.raises(ConfigError, match=r"freeze: must be at most 2: .* 2 blocks .* \(0, 4\), but got 3"):
        freeze(model, 3)


def test_norms_without_weights_keep_their_statistics_with_what_is_before_them() -> None:
    norms = [nn.BatchNorm2d(channels, affine=False) for channels in (1, 2, 2)]
    model = nn.Sequential(
        *(norms[0], nn.Conv2d(1, 2, 3), nn.ReLU(), norms[1]),
        nn.Sequential(nn.Conv2d(2, 2, 3), norms[2]),
        *(nn.Flatten(), nn.Linear(32, 3)),
    )
    assert frozen_modules(model, 1) == [norms[0], model[1], norms[1]]
    assert frozen_modules(model, "all_but_head") == [norms[0], model[1], norms[1], model[4]]
    assert frozen_modules(model, 2) == frozen_modules(model, "all_but_head")


def test_a_model_that_is_only_a_head_has_no_blocks() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert freeze(model, "none") == []
    with pytest.raises(ConfigError, match=r"the model has 0 blocks besides its head, but got 1"):
        freeze(model, 1)


def test_the_head_of_a_model_without_a_linear_layer_is_its_last_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 10, 1))
    assert head_modules(model) == {"2": model[2]}
    assert frozen_modules(model, "all_but_head") == [model[0]]
    with pytest.raises(ConfigError, match=r"architecture: has no linear layer or convolution whose outputs"):
        head_modules(nn.Sequential(nn.BatchNorm2d(3)))


def test_several_groups_within_one_module_are_as_many_stages() -> None:
    groups = [["stem.w"], ["block.a"], ["block.b", "block.c"], ["block.d"], ["scale"], ["head.w"]]
    parts = parts_from_groups(groups, ("head",))
    assert [list(names) for names in parts.stages.values()] == groups[:-1]
    assert list(parts.stages) == ["stem", "block", "block.b", "block.d", "scale"]
