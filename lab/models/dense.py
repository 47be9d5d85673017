"""What follows a feature extractor: the head that flattens its map, and the dense layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lab import registry
from lab.config import TrialConfig
from lab.models.kernels import Flatten

__all__ = ["with_dense"]


def with_dense(
    features: nn.Module, shape: tuple[int, int, int], config: TrialConfig, classes: int
) -> nn.Sequential:
    """Return `features` followed by the head and the dense layers of `config`, [B, C, H, W] -> [B, classes].

    Args:
        features: the feature extractor.
        shape: channels, height and width of its output.
        config: names the head, the dense layers, their norm, activation and dropout.
        classes: number of classes.
    """
    channels, height, width = shape
    if config.head == "flatten":
        head: nn.Module = Flatten()
        inputs = channels * height * width
    else:
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        inputs = channels
    return nn.Sequential(
        OrderedDict(features=features, head=head, classifier=_classifier(config, inputs, classes))
    )


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
    """Return one probability per dense layer; a single value applies to all but the first."""
    if isinstance(config.dropout, tuple):
        return config.dropout
    if not config.dense:
        return (config.dropout,)
    return (0.0,) + (config.dropout,) * len(config.dense)
