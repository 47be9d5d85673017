"""Optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError, Fault
from lab.extras import require
from lab.torchvision_import import import_torchvision

__all__ = ["build_optimizer", "lion"]


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

    Raises:
        ConfigError: a plug-in gives something else.
        LabError: a package that the optimizer needs is not installed.
    """
    entry = registry.optimizers[config.optimizer]
    optimizer = entry.load()
    taken = inspect.signature(optimizer).parameters
    options = entry.arguments(config)
    if "fused" in taken:
        options["fused"] = True  # one kernel for all parameters instead of several per parameter
    if "head" in taken:
        options["head"] = head
    built = optimizer(parameters, lr=config.lr, **options)
    if not isinstance(built, Optimizer):
        message = f"'{config.optimizer}' must return a torch.optim.Optimizer, but got {built!r}"
        raise ConfigError(Fault(message, "optimizer"))
    return built


def lion(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, *, weight_decay: float
) -> Optimizer:
    """Return timm's Lion (Chen et al. 2023, arXiv:2302.06675), which wants a third to a tenth of AdamW's `lr`.

    Raises:
        LabError: timm is not installed.
    """
    import_torchvision("torchvision")  # timm imports it too, which fails with some builds of torch
    built: Optimizer = require("timm.optim", "timm", "The optimizer lion").Lion(
        parameters, lr=lr, weight_decay=weight_decay
    )
    return built
