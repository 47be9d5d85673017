"""Training losses: from logits, [B, classes], and labels to the mean over the images of a batch.

Labels are int64 [B], or, if images are mixed, float [B, classes]: the share of each class, summing to 1 per image. A
share of 1 gives what the label gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError, Fault

__all__ = ["balanced_cross_entropy", "build_loss", "cross_entropy", "focal", "mse"]


def build_loss(config: TrialConfig, images: Tensor) -> nn.Module:
    """Return the training loss of `config`: logits [B, classes] and labels, [B] or [B, classes], -> mean loss.

    Args:
        config: names the loss and its settings.
        images: number of training images per class, [classes].

    Raises:
        ConfigError: a plug-in gives something else.
    """
    entry = registry.losses[config.loss]
    loss = entry.load()(images, **entry.arguments(config))
    if not isinstance(loss, nn.Module):
        raise ConfigError(Fault(f"'{config.loss}' must return an nn.Module, but got {loss!r}", "loss"))
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
    return _WeightedCrossEntropy(weight=weights.float(), label_smoothing=label_smoothing)


def focal(images: Tensor, *, focal_gamma: float, label_smoothing: float = 0.0) -> nn.Module:
    """Return the cross entropy in which an image counts the less, the better it is classified.

    Its factor is (1 - p)^`focal_gamma`, where p is the probability that the net gives to its class; without the weights
    per class that are an option in the paper (Lin et al. 2017, arXiv:1708.02002).
    """
    return _Focal(focal_gamma, label_smoothing)


def mse(images: Tensor, *, label_smoothing: float | None = None) -> nn.Module:
    """Return the mean squared error between logits and one-hot labels (Hui & Belkin 2021, arXiv:2006.07322).

    Smoothed labels are mixed with 1 / classes, as in cross entropy.
    """
    return _OneHotMSE(label_smoothing or 0.0)


class _WeightedCrossEntropy(nn.CrossEntropyLoss):
    """The cross entropy with a weight per class, divided by the weights of the labels for shares, too.

    torch divides by their sum for labels [B], but by the number of images for shares [B, classes].
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = super().forward(logits, labels)
        if self.weight is None or not labels.is_floating_point():
            return loss
        return loss * len(labels) / (labels * self.weight).sum()


class _Focal(nn.Module):
    def __init__(self, gamma: float, label_smoothing: float) -> None:
        super().__init__()
        self.gamma = gamma
        self._smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log = F.log_softmax(logits.float(), 1)
        # at p = 1 the factor's slope would be infinite for a gamma below 1
        missing = (-torch.expm1(log)).clamp(min=torch.finfo(log.dtype).tiny)  # 1 - p, exact near 0
        losses = -(missing**self.gamma) * log  # of each class, if it were the image's
        return (_smoothed(_shares(labels, logits), self._smoothing) * losses).sum(1).mean()


class _OneHotMSE(nn.Module):
    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self._smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = _smoothed(_shares(labels, logits), self._smoothing)
        return F.mse_loss(logits.float(), targets)


def _shares(labels: Tensor, logits: Tensor) -> Tensor:
    """Return the share of each class, [B, classes]."""
    return labels if labels.is_floating_point() else F.one_hot(labels, logits.shape[1]).float()


def _smoothed(shares: Tensor, smoothing: float) -> Tensor:
    """Return the shares [B, classes], mixed with 1 / classes as in torch's cross entropy."""
    return shares * (1 - smoothing) + smoothing / shares.shape[1] if smoothing else shares
