"""Optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lab import registry
from lab.config import TrialConfig

__all__ = ["build_optimizer"]


def build_optimizer(
    config: TrialConfig, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
) -> Optimizer:
    """Return the optimizer of `config` over `parameters`, or over groups of them with learning rates of their own."""
    entry = registry.optimizers[config.optimizer]
    optimizer = entry.load()
    options = entry.arguments(config)
    if "fused" in inspect.signature(optimizer).parameters:
        options["fused"] = True  # one kernel for all parameters instead of several per parameter
    built: Optimizer = optimizer(parameters, lr=config.lr, **options)
    return built
