"""The configurable convolutional net: conv layers or blocks, a head, dense layers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, TypeVar

from torch import nn

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError, Fault
from lab.models.blocks import InvertedResidual, Norm, Preact, Residual
from lab.models.dense import with_dense

__all__ = ["build"]

T = TypeVar("T")

_NORMS: Final[dict[str, Norm | None]] = {"none": None, "batch": nn.BatchNorm2d}


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the net of `config` for images of `shape`, [B, C, H, W] -> logits [B, classes].

    Layer n of `features` consists of the children `conv{n}` (or `block{n}`), `norm{n}`, `activation{n}`, `pool{n}` and
    `dropout{n}`, if the config asks for them.

    Args:
        config: the model's settings.
        shape: channels, height and width of an image.
        classes: number of classes.

    Raises:
        ConfigError: a layer's window is larger than its input, or a block would add maps of different sizes;
            names the layer.
    """
    feature_map = _FeatureMap(shape)
    features = _features(config, feature_map)
    return with_dense(features, feature_map.shape, config, classes)


@dataclass(frozen=True)
class _Layer:
    """The settings of one layer of `filters`."""

    number: int
    block: str
    filters: int
    kernel_size: int
    padding: int
    stride: int
    pool: int

    @property
    def name(self) -> str:
        return f"conv{self.number}" if self.block == "conv" else f"block{self.number}"


class _FeatureMap:
    """The shape of the feature map, tracked from the image on."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.images = "×".join(map(str, shape))

    def pass_through(
        self, layer: str, channels: int, window: int, padding: int, stride: int, key: str
    ) -> None:
        """Take the shape that a convolution or pooling produces.

        Raises:
            ConfigError: its window is larger than the padded map.
        """
        _, height, width = self.shape
        left = min(height, width)
        if left + 2 * padding < window:
            raise ConfigError(
                Fault(
                    f"{layer} with window {window} and padding {padding} does not fit"
                    f" the {left} pixels left of {self.images} images",
                    key,
                )
            )
        height, width = ((size + 2 * padding - window) // stride + 1 for size in (height, width))
        self.shape = (channels, height, width)


def _features(config: TrialConfig, feature_map: _FeatureMap) -> nn.Sequential:
    children: OrderedDict[str, nn.Module] = OrderedDict()
    norm, activation = _NORMS[config.norm], registry.activations[config.activation].load()
    pooling = nn.MaxPool2d if config.pool_type == "max" else nn.AvgPool2d
    layers = _layers(config)
    for layer, following in zip_longest(layers, layers[1:]):
        number, channels = layer.number, feature_map.shape[0]
        _check_sum(layer, channels)
        feature_map.pass_through(
            layer.name, layer.filters, layer.kernel_size, layer.padding, layer.stride, "kernel_size"
        )
        children[layer.name] = _block(config, layer, channels)
        # other blocks bring their own, but consecutive preact blocks lack one after their last sum
        ends_run = layer.block == "preact" and (following is None or following.block != "preact")
        if layer.block == "conv" or ends_run:
            if norm:
                children[f"norm{number}"] = norm(layer.filters)
            children[f"activation{number}"] = activation()
        if layer.pool > 1:
            feature_map.pass_through(f"pool{number}", layer.filters, layer.pool, 0, layer.pool, "pool")
            children[f"pool{number}"] = pooling(layer.pool)
            if pooling is nn.MaxPool2d and activation is nn.ReLU and f"activation{number}" in children:
                children.move_to_end(f"activation{number}")  # the same numbers, from a quarter of the values
        if config.conv_dropout:
            children[f"dropout{number}"] = nn.Dropout2d(config.conv_dropout)
    return nn.Sequential(children)


def _layers(config: TrialConfig) -> list[_Layer]:
    filters = config.filters or ()
    count = len(filters)
    columns = zip(
        _each(config.block, count),
        filters,
        _each(config.kernel_size, count),
        _each(config.padding, count),
        _each(config.stride, count),
        _each(config.pool, count),
        strict=True,
    )
    return [_Layer(number, *values) for number, values in enumerate(columns, start=1)]


def _each(value: T | tuple[T, ...] | None, count: int) -> tuple[T, ...]:
    if value is None:
        raise TypeError("a resolved config has a value for every layer")
    return value if isinstance(value, tuple) else (value,) * count


def _block(config: TrialConfig, layer: _Layer, channels: int) -> nn.Module:
    kernel_size, stride, padding = layer.kernel_size, layer.stride, layer.padding
    norm, activation = _NORMS[config.norm], registry.activations[config.activation].load()
    if layer.block == "conv":
        return nn.Conv2d(channels, layer.filters, kernel_size, stride, padding, bias=config.conv_bias)
    if layer.block == "inverted_residual":
        return InvertedResidual(
            channels,
            layer.filters,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            expansion=config.expansion,
            norm=norm,
            activation=activation,
            bias=config.conv_bias,
        )
    return (Residual if layer.block == "residual" else Preact)(
        channels,
        layer.filters,
        kernel_size=kernel_size,
        stride=stride,
        depth=config.block_depth,
        norm=norm,
        activation=activation,
        bias=config.conv_bias,
    )


def _check_sum(layer: _Layer, channels: int) -> None:
    """Raise a ConfigError if a block would add maps of different sizes."""
    keeps_shape = layer.stride == 1 and layer.filters == channels
    if layer.block == "conv" or (layer.block == "inverted_residual" and not keeps_shape):
        return
    why = f"{layer.name} ({layer.block}) adds its input to its output"
    if layer.kernel_size % 2 == 0:
        raise ConfigError(
            Fault(f"{why}: its kernel_size must be odd, but got {layer.kernel_size}", "kernel_size")
        )
    same = layer.kernel_size // 2
    if layer.padding != same:
        raise ConfigError(
            Fault(
                f"{why}: its kernel_size {layer.kernel_size} needs padding {same}, but got {layer.padding}",
                "padding",
            )
        )
