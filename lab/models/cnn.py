"""The configurable convolutional net: conv layers, a head, dense layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError, Fault

__all__ = ["build"]


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the net of `config` for images of `shape`, [B, C, H, W] -> logits [B, classes].

    Args:
        config: the model's settings.
        shape: channels, height and width of an image.
        classes: number of classes.

    Raises:
        ConfigError: a layer's window is larger than what reaches it; names the layer.
    """
    features, (channels, height, width) = _features(config, shape)
    if config.head == "flatten":
        head: nn.Module = nn.Flatten()
        inputs = channels * height * width
    else:
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        inputs = channels
    return nn.Sequential(
        OrderedDict(features=features, head=head, classifier=_classifier(config, inputs, classes))
    )


def _features(config: TrialConfig, shape: tuple[int, int, int]) -> tuple[nn.Sequential, tuple[int, int, int]]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, height, width = shape
    filters = config.filters or ()
    kernels, paddings, strides, pools = (
        _each(value, len(filters))
        for value in (config.kernel_size, config.padding, config.stride, config.pool)
    )
    activation = registry.activations[config.activation].load()
    pooling = nn.MaxPool2d if config.pool_type == "max" else nn.AvgPool2d
    for index, out in enumerate(filters):
        number, kernel, padding, stride, pool = (
            index + 1,
            kernels[index],
            paddings[index],
            strides[index],
            pools[index],
        )
        height, width = (
            _shrunk(f"conv{number}", size, kernel, padding, stride, "kernel_size") for size in (height, width)
        )
        layers[f"conv{number}"] = nn.Conv2d(channels, out, kernel, stride, padding)
        if config.norm == "batch":
            layers[f"norm{number}"] = nn.BatchNorm2d(out)
        layers[f"activation{number}"] = activation()
        if pool > 1:
            height, width = (
                _shrunk(f"pool{number}", size, pool, 0, pool, "pool") for size in (height, width)
            )
            layers[f"pool{number}"] = pooling(pool)
        if config.conv_dropout:
            layers[f"dropout{number}"] = nn.Dropout2d(config.conv_dropout)
        channels = out
    return nn.Sequential(layers), (channels, height, width)


def _classifier(config: TrialConfig, inputs: int, classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = (*config.dense, classes)
    for number, (out, dropout) in enumerate(zip(widths, _dropouts(config), strict=True), start=1):
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        layers[f"dense{number}"] = nn.Linear(inputs, out)
        if number < len(widths):
            if config.dense_norm == "batch":
                layers[f"norm{number}"] = nn.BatchNorm1d(out)
            layers[f"activation{number}"] = registry.activations[config.dense_activation or "relu"].load()()
        inputs = out
    return nn.Sequential(layers)


def _dropouts(config: TrialConfig) -> tuple[float, ...]:
    """Return one probability for each dense layer; a single value stands before all but the first."""
    if isinstance(config.dropout, tuple):
        return config.dropout
    if not config.dense:
        return (config.dropout,)
    return (0.0,) + (config.dropout,) * len(config.dense)


def _each(value: int | tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if value is None:
        raise TypeError("a resolved config has a value for every layer")
    return value if isinstance(value, tuple) else (value,) * count


def _shrunk(layer: str, size: int, kernel: int, padding: int, stride: int, key: str) -> int:
    if size + 2 * padding < kernel:
        raise ConfigError(
            Fault(
                f"{layer} with window {kernel} and padding {padding} does not fit the {size} pixels left", key
            )
        )
    return (size + 2 * padding - kernel) // stride + 1
