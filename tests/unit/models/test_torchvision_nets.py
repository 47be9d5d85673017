"""torchvision's nets with every image size, in the same parts as lab's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.models import build_model, frozen_modules, summarize_config
from lab.torchvision_import import import_torchvision

RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101"]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 96, 96)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", RESNETS)
def test_resnets_fit_any_image(architecture: str, shape: tuple[int, int, int]) -> None:
    layers = summarize_config(TrialConfig(architecture=architecture), shape, 7).layers
    assert layers[-1].output_shape == (7,)
    last_map = next(layer for layer in reversed(layers) if layer.type == "Conv2d")
    assert last_map.output_shape[1:] == {28: (4, 4), 32: (4, 4), 96: (3, 3)}[shape[1]]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_resnet_learns_in_every_parameter(shape: tuple[int, int, int]) -> None:
    model = build_model(TrialConfig(architecture="resnet18"), shape, 4)
    torch.nn.functional.cross_entropy(model(torch.randn(2, *shape)), torch.tensor([0, 3])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("architecture", RESNETS)
def test_a_resnet_for_large_images_is_torchvisions(architecture: str) -> None:
    with torch.device("meta"):
        theirs = getattr(import_torchvision("torchvision.models"), architecture)(num_classes=10)
    summary = summarize_config(TrialConfig(architecture=architecture), (3, 64, 64), 10)
    assert summary.params == sum(parameter.numel() for parameter in theirs.parameters())


def test_a_resnet_computes_what_torchvisions_does() -> None:
    torch.manual_seed(0)
    theirs = import_torchvision("torchvision.models").resnet18(num_classes=10).eval()
    ours = build_model(TrialConfig(architecture="resnet18"), (3, 64, 64), 10).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [("auto", 63, 63), ("auto", 64, 16), ("imagenet", 28, 7), ("small", 64, 64)],
)
def test_the_stem_keeps_the_size_of_small_images_or_as_told(stem: str, size: int, expected: int) -> None:
    config = TrialConfig(architecture="resnet18", stem=stem)
    layers = summarize_config(config, (3, size, size), 10).layers
    block = next(layer for layer in layers if layer.name.startswith("features.block2"))
    assert block.output_shape == (64, expected, expected)


@pytest.mark.parametrize(("architecture", "blocks"), [("resnet18", 9), ("resnet50", 17), ("vgg19", 16)])
def test_the_blocks_that_can_be_frozen(architecture: str, blocks: int) -> None:
    with torch.device("meta"):
        model = build_model(TrialConfig(architecture=architecture), (3, 32, 32), 10)
    assert frozen_modules(model, blocks) == frozen_modules(model, "all_but_head")
    with pytest.raises(ConfigError, match=f"must be at most {blocks}: the model has {blocks} blocks"):
        frozen_modules(model, blocks + 1)


def test_vgg19_has_the_dense_part_of_the_config() -> None:
    config = TrialConfig(architecture="vgg19", dense=(16,), dense_norm="batch", dropout=0.5)
    layers = summarize_config(config, (3, 64, 64), 10).layers
    assert [layer.type for layer in layers[-6:]] == [
        *("Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear")
    ]
    assert layers[-5].params == 512 * 2 * 2 * 16 + 16


def test_vgg19_has_torchvisions_convolutions() -> None:
    with torch.device("meta"):
        theirs = import_torchvision("torchvision.models").vgg19().features
        ours = build_model(TrialConfig(architecture="vgg19"), (3, 32, 32), 10).features
    assert [str(layer) for layer in ours] == [str(layer) for layer in theirs]
    assert list(dict(ours.named_children()))[:5] == ["conv1", "activation1", "conv2", "activation2", "pool2"]


def test_vgg19_reads_grey_images_of_any_sides() -> None:
    model = build_model(TrialConfig(architecture="vgg19", head="global_avg_pool"), (1, 33, 65), 3).eval()
    images = torch.randn(2, 1, 33, 65)
    assert model.features(images).shape == (2, 512, 1, 2)
    assert model(images).shape == (2, 3)


@pytest.mark.parametrize("architecture", ["resnet18", "vgg19"])
def test_convolutions_begin_with_torchvisions_weights(architecture: str) -> None:
    model = build_model(TrialConfig(architecture=architecture), (3, 32, 32), 10)
    for convolution in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        fan_out = convolution.weight[:, 0].numel()
        assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        assert convolution.bias is None or not convolution.bias.any()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 31), (3, 31, 64)])
def test_vgg19_names_the_images_that_are_too_small(shape: tuple[int, int, int]) -> None:
    size = "×".join(map(str, shape))
    message = rf"^architecture: vgg19 .* needs at least 32×32 pixels, but got images of {size}$"
    with pytest.raises(ConfigError, match=message):
        summarize_config(TrialConfig(architecture="vgg19"), shape, 10)
