"""Training losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import registry
from lab.config import TrialConfig

__all__ = ["balanced_cross_entropy", "build_loss", "cross_entropy", "mse"]


def build_loss(config: TrialConfig, images: Tensor) -> nn.Module:
    """Return the training loss of `config`, logits [B, classes] and labels [B] -> mean loss.

    Args:
        config: names the loss and its settings.
        images: number of training images per class, [classes].
    """
    entry = registry.losses[config.loss]
    options: dict[str, Any] = {name: getattr(config, name) for name in entry.options}
    loss: nn.Module = entry.load()(images, **options)
    return loss


def cross_entropy(images: Tensor, *, label_smoothing: float) -> nn.Module:
    """Return the cross entropy that weights all images equally."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


def balanced_cross_entropy(images: Tensor, *, label_smoothing: float) -> nn.Module:
    """Return the cross entropy that weights all classes equally, by their inverse frequency.

    The weights are scikit-learn's `balanced` ones, images / (classes * images of the class); a class without images
    gets 0.
    """
    present = images > 0
    weights = torch.where(present, images.sum() / (len(images) * images.clamp(min=1)), 0.0)
    return nn.CrossEntropyLoss(weight=weights.float(), label_smoothing=label_smoothing)


def mse(images: Tensor, *, label_smoothing: float | None = None) -> nn.Module:
    """Return the mean squared error between logits and one-hot labels (Hui & Belkin 2021, arXiv:2006.07322).

    Smoothed labels are mixed with 1 / classes, as in cross entropy.
    """
    return _OneHotMSE(label_smoothing or 0.0)


class _OneHotMSE(nn.Module):
    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self._smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        classes = logits.shape[1]
        targets = F.one_hot(labels, classes).to(logits.dtype)  # [B, classes]
        if self._smoothing:
            targets = targets * (1 - self._smoothing) + self._smoothing / classes
        return F.mse_loss(logits, targets)
