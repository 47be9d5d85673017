"""Optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lab import registry
from lab.config import TrialConfig

__all__ = ["build_optimizer"]


def build_optimizer(
    config: TrialConfig,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    head: Collection[nn.Parameter] = (),
) -> Optimizer:
    """Return the optimizer of `config`.

    Args:
        config: names the optimizer and its settings.
        parameters: to optimize; or groups of them, each of which may have its own `lr`.
        head: those of the last layer, for an optimizer that treats it differently.
    """
    entry = registry.optimizers[config.optimizer]
    optimizer = entry.load()
    taken = inspect.signature(optimizer).parameters
    options = {name: getattr(config, name) for name in entry.options}
    if "fused" in taken:
        options["fused"] = True  # one kernel for all parameters instead of several per parameter
    if "head" in taken:
        options["head"] = head
    built: Optimizer = optimizer(parameters, lr=config.lr, **options)
    return built
