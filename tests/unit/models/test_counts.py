"""The parameter counts of the reports (docs/RESULTS.md), computed without allocating anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lab import registry
from lab.config import PRESETS, TrialConfig
from lab.models import skeleton, summarize_config
from lab.models.summary import counts_by_layer, summarize

RGB32 = (3, 32, 32)
DENSE_NORM = {"norm": "batch", "dense_norm": "batch"}


@pytest.mark.parametrize(
    ("preset", "params"),
    [
        *(("lenet", 62_006), ("conv3", 110_598), ("conv5", 3_154_982), ("cerberus", 3_223_882)),
        *(("cnn1", 26_346), ("cnn2", 72_330), ("cnn3", 186_378), ("cnn4", 423_434), ("mobile1", 87_082)),
    ],
)
def test_presets_have_the_reports_parameters(preset: str, params: int) -> None:
    summary = summarize_config(TrialConfig(preset=preset), RGB32, 10)
    assert summary.params == summary.trainable_params == params


def test_cerberus_has_the_reports_mult_adds() -> None:
    mult_adds = summarize_config(TrialConfig(preset="cerberus"), RGB32, 10).mult_adds
    assert round(mult_adds / 1e6, 2) == 379.78


@pytest.mark.parametrize(
    ("preset", "about", "shape", "classes"),
    [
        ("mobile2", 51e3, RGB32, 10),
        ("mobile3", 130e3, RGB32, 10),
        ("smallres", 106e3, RGB32, 10),
        ("vgg19", 24e6, (3, 128, 128), 8),
    ],
)
def test_presets_have_about_the_reports_parameters(
    preset: str, about: float, shape: tuple[int, int, int], classes: int
) -> None:
    params = summarize_config(TrialConfig(preset=preset), shape, classes).params
    assert params == pytest.approx(about, rel=0.015)


@pytest.mark.parametrize("preset", ["mobile1", "mobile2", "mobile3", "smallres", "preact"])
def test_the_efficient_nets_stay_within_their_budget(preset: str) -> None:
    assert summarize_config(TrialConfig(preset=preset), RGB32, 10).params <= 150_000


@pytest.mark.parametrize(
    ("depth", "width", "kernel_size", "dense", "values", "parameters"),
    [
        (1, 64, 5, 1, {}, 79_624),
        (2, 64, 5, 1, {}, 182_088),
        (4, 64, 5, 1, {}, 387_016),
        (8, 64, 5, 1, {}, 796_872),
        (4, 32, 5, 2, {}, 1_170_920),
        (4, 64, 5, 2, {}, 1_436_616),
        (4, 128, 5, 2, {}, 2_428_808),
        (4, 256, 5, 2, {}, 6_256_392),
        (4, 256, 3, 2, {}, 3_098_376),
        (4, 256, 7, 2, {}, 10_993_416),
        (4, 256, 9, 2, {}, 17_309_448),
        (4, 256, 5, 2, DENSE_NORM, 6_268_680),
    ],
)
def test_scene_nets_have_the_reports_parameters_and_statistics(
    depth: int, width: int, kernel_size: int, dense: int, values: dict[str, Any], parameters: int
) -> None:
    config = TrialConfig(
        preset="scene",
        filters=(width,) * depth,
        kernel_size=kernel_size,
        dense=(1024,) * dense,
        **values,
    )
    summary = summarize_config(config, (3, 64, 64), 8)
    assert summary.params + summary.buffers == parameters


def test_the_scene_preset_is_the_reports_middle_net() -> None:
    assert summarize_config(TrialConfig(preset="scene"), (3, 64, 64), 8).params == 387_016


def test_the_mnist_net_has_the_reports_features() -> None:
    layers = summarize_config(TrialConfig(preset="mnist"), (1, 28, 28), 10).layers
    assert [layer.output_shape for layer in layers if layer.type == "Flatten"] == [(4_900,)]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_fits_images_of_32_pixels(preset: str) -> None:
    assert summarize_config(TrialConfig(preset=preset), RGB32, 10).layers[-1].output_shape == (10,)


@pytest.mark.parametrize(
    "values",
    [
        *({"preset": preset} for preset in sorted(PRESETS)),
        *({"activation": name, "dense": (8,)} for name in sorted(registry.activations)),
        {"conv_dropout": 0.1, "dropout": 0.1, "pool_type": "avg", "norm": "batch", "head": "global_avg_pool"},
        *(
            {"architecture": f"torchvision/{name}"}
            for name in (
                *("alexnet", "densenet121", "efficientnet_b0", "mnasnet0_5", "mobilenet_v2"),
                *("mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5"),
                *("squeezenet1_1", "vgg11_bn"),
            )
        ),
    ],
    ids=lambda values: " ".join(map(str, values.values())),
)
def test_mult_adds_of_layers_are_those_of_torchs_counter(values: dict[str, Any]) -> None:
    config = TrialConfig(**values)
    shape = (3, 64, 64)
    model = skeleton(config, shape, 10).eval().requires_grad_(False)
    assert counts_by_layer(model)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape, device="meta"))
    assert summarize_config(config, shape, 10).mult_adds == counter.get_total_flops() // 2


class _Product(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values @ values.T


@pytest.mark.parametrize(
    "hidden",
    [
        nn.MultiheadAttention(4, 2),
        nn.Bilinear(4, 4, 4),
        nn.ConvTranspose2d(1, 1, 3),
        nn.LSTM(4, 4),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        _Product(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_other_products_are_left_to_torchs_counter(hidden: nn.Module) -> None:
    assert counts_by_layer(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    assert not counts_by_layer(nn.Sequential(nn.Linear(4, 4), hidden))


@pytest.mark.parametrize(
    ("layer", "refusal"),
    [
        (nn.Conv2d(5, 4, 3), "to have 5 channels, but got 3 channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "shapes cannot be multiplied"),
    ],
    ids=["channels", "features"],
)
def test_layers_that_do_not_fit_are_refused_though_nothing_is_multiplied(
    layer: nn.Module, refusal: str
) -> None:
    with pytest.raises(RuntimeError, match=refusal):
        summarize(nn.Sequential(layer), RGB32)
