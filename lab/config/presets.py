"""Named bundles of config values: the nets of the reports. What a user sets himself lies above them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["PRESETS"]

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # 62,006 parameters at 3x32x32 and 10 classes
    "lenet": {
        "filters": [6, 16],
        "kernel_size": 5,
        "padding": 0,
        "dense": [120, 84],
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.001,
    },
    # 110,598 parameters
    "conv3": {
        "filters": [32, 64, 64],
        "padding": 0,
        "dense": [128, 96, 84],
        "dense_activation": "gelu",
        "dropout": 0.2,
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.001,
    },
    # 3,154,982 parameters
    "conv5": {
        "filters": [32, 64, 128, 256, 256],
        "pool": [1, 2, 2, 1, 2],
        "norm": "batch",
        "dense": [512, 128, 84],
        "dense_activation": "gelu",
        "dropout": [0.2, 0.0, 0.0, 0.0],
        "optimizer": "sgd",
        "momentum": 0.8,
        "lr": 0.001,
    },
    # 3,223,882 parameters, 379.78 M mult-adds
    "cerberus": {
        "filters": [64] * 4 + [128] * 4 + [256] * 4,
        "pool": [1, 1, 1, 2] * 3,
        "norm": "batch",
        "dense": [128],
        "dropout": 0.5,
        "patience": 5,
        "scheduler": "exponential",
        "gamma": 0.95,
    },
}
