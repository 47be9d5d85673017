"""What changes the weights: the model with its loss and its optimizer, which learn from one batch after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import Dataset
from lab.models import build_model, frozen_modules, trained_parameters
from lab.training.device import autocast
from lab.training.losses import build_loss
from lab.training.optimizers import build_optimizer

__all__ = ["Learner"]


class Learner:
    """A model that learns from batches.

    Args:
        config: the trial's settings.
        dataset: that it learns from; only its shape, classes and labels are needed here.
        device: to train on.

    Raises:
        ConfigError: the model does not fit the images.
    """

    def __init__(self, config: TrialConfig, dataset: Dataset, device: torch.device) -> None:
        self._config = config
        self._device = device
        model = build_model(config, dataset.shape, len(dataset.classes))
        self.model: nn.Module = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._frozen = frozen_modules(self.model, config.freeze)
        counts = torch.bincount(dataset.train.labels, minlength=len(dataset.classes))
        self._loss = build_loss(config, counts).to(device)
        self.optimizer = build_optimizer(config, trained_parameters(self.model, config))

    @property
    def lr(self) -> float:
        """Learning rate of the next optimizer step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def begin(self) -> None:
        """Prepare for batches to learn from: put the model into training mode, except for frozen layers."""
        self.model.train()
        for module in self._frozen:
            module.eval()  # frozen statistics must not change either

    def learn(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Learn from a batch; return its mean loss and the logits [B, classes] before the step.

        Args:
            images: normalised float32 [B, C, H, W].
            labels: int64 [B], or float [B, classes] if they are mixed.
        """
        with autocast(self._config, self._device):
            logits = self.model(images)  # [B, classes]
            loss = self._loss(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, logits

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on learning, as tensors and plain values."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; `state` may have other keys."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
