"""torchvision's ResNets and VGG19, untrained, adapted to the image size and the number of classes.

Their parts have the names that `lab.models.cnn` uses: `features` (numbered by block), `head`, `classifier`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from lab.config import TrialConfig
from lab.errors import ConfigError, Fault
from lab.models.dense import with_dense
from lab.torchvision_import import import_torchvision

__all__ = ["resnet18", "resnet34", "resnet50", "resnet101", "vgg19"]

_SMALL = 64  # pixels; ImageNet's stem quarters both sides, which is too much for smaller images


def resnet18(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return ResNet-18 (He et al. 2016, arXiv:1512.03385) for images of `shape`, [B, C, H, W] -> [B, classes].

    `stem: small` is the paper's stem for CIFAR: 3×3, stride 1, no pooling; `auto` uses it for images under 64 pixels.
    """
    return _resnet("resnet18", config.stem, shape, classes)


def resnet34(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return ResNet-34; see `resnet18`."""
    return _resnet("resnet34", config.stem, shape, classes)


def resnet50(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return ResNet-50, made of bottleneck blocks; see `resnet18`."""
    return _resnet("resnet50", config.stem, shape, classes)


def resnet101(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return ResNet-101, made of bottleneck blocks; see `resnet18`."""
    return _resnet("resnet101", config.stem, shape, classes)


def vgg19(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the convolutions of VGG19 followed by the dense layers of `config`, [B, C, H, W] -> [B, classes].

    Source: Simonyan & Zisserman 2015, arXiv:1409.1556 (configuration E).

    Raises:
        ConfigError: images are smaller than 32 pixels, which five poolings reduce to nothing.
    """
    channels, height, width = shape
    if min(height, width) < 32:
        raise ConfigError(
            Fault(
                "vgg19 halves images five times and needs at least 32×32 pixels,"
                f" but got images of {'×'.join(map(str, shape))}",
                "architecture",
            )
        )
    return with_dense(_vgg19_features(channels), (512, height // 32, width // 32), config, classes)


def _resnet(name: str, stem: str, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    net = getattr(import_torchvision("torchvision.models"), name)(weights=None, num_classes=classes)
    channels, height, width = shape
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    small = stem == "small" or (stem == "auto" and min(height, width) < _SMALL)
    features = _stem(net, channels, small)
    for number, block in enumerate((block for stage in stages for block in stage), start=2):
        features[f"block{number}"] = block
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(features),
            head=nn.Sequential(net.avgpool, nn.Flatten()),
            classifier=nn.Sequential(OrderedDict(dense1=net.fc)),
        )
    )


def _stem(net: Any, channels: int, small: bool) -> OrderedDict[str, nn.Module]:
    kernel_size, stride = (3, 1) if small else (7, 2)
    conv = nn.Conv2d(channels, 64, kernel_size, stride, kernel_size // 2, bias=False)
    stem: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=_initialized(conv), norm1=net.bn1, activation1=net.relu
    )
    if not small:
        stem["pool1"] = net.maxpool
    return stem


def _vgg19_features(channels: int) -> nn.Sequential:
    # Only the convolutions: torchvision's whole net would allocate half a gigabyte of unused dense layers.
    vgg = import_torchvision("torchvision.models.vgg")
    kinds = {nn.Conv2d: "conv", nn.ReLU: "activation", nn.MaxPool2d: "pool"}
    children: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for layer in vgg.make_layers(vgg.cfgs["E"]):
        if isinstance(layer, nn.Conv2d):
            number += 1
            if number == 1:
                layer = nn.Conv2d(channels, layer.out_channels, 3, padding=1)
            layer = _initialized(layer)
        children[f"{kinds[type(layer)]}{number}"] = layer
    return nn.Sequential(children)


def _initialized(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution initialised as torchvision does for both families: Kaiming normal by fan-out."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
