"""From a config to a torch loss."""

from __future__ import annotations

from torch import nn

from lab import registry
from lab.config import TrialConfig

__all__ = ["build_loss"]


def build_loss(config: TrialConfig) -> nn.Module:
    """Return the training loss of `config`, logits [B, classes] and labels [B] -> mean loss."""
    entry = registry.losses[config.loss]
    loss: nn.Module = entry.load()(**{name: getattr(config, name) for name in entry.options})
    return loss
