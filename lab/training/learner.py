"""What changes the weights: the model with its loss and its optimizer, which learn from one batch after another."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import Dataset
from lab.errors import ConfigError, Fault
from lab.models import build_model, frozen_modules, head_modules, trained_parameters
from lab.training.accumulation import WHOLE, Part
from lab.training.averaging import Average
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
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(config, trained_parameters(self.model, config), _head(self.model))
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._average = None if config.ema_decay is None else Average(self.model, config.ema_decay)
        self._between = False  # whether an optimizer step has some of its batches, and lacks others
        self._forward = _compiled(self.model) if config.compile else self.model
        self.evaluated = self._forward
        if self._average is not None:
            self.evaluated = _compiled(self._average.model) if config.compile else self._average.model

    @property
    def kept(self) -> dict[str, Tensor]:
        """State dict of the weights that are evaluated and kept: the average if there is one, else the model's."""
        return (self.model if self._average is None else self._average.model).state_dict()

    @property
    def lr(self) -> float:
        """Learning rate of the next optimizer step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def use_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on; parameters with a factor of their own keep it."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * rate / self._rates[0]

    def begin(self) -> None:
        """Prepare for batches to learn from: put the model into training mode, except for frozen layers."""
        self.model.train()
        for module in self._frozen:
            module.eval()  # frozen statistics must not change either

    def learn(self, images: Tensor, labels: Tensor, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        """Learn from a batch; return its mean loss and the logits [B, classes] before the step.

        Args:
            images: normalised float32 [B, C, H, W].
            labels: int64 [B], or float [B, classes] if they are mixed.
            part: of an optimizer step, which is done after its last batch.

        Raises:
            ConfigError: a plug-in's loss is not a single number.
        """
        with autocast(self._config, self._device):
            logits = self._forward(images)  # [B, classes]
            loss = self._loss(logits, labels)
        if loss.numel() != 1:
            message = f"'{self._config.loss}' must give a single number, the mean over the images of a batch"
            raise ConfigError(Fault(f"{message}, but it gives a tensor of shape {list(loss.shape)}", "loss"))
        if part.first:
            self.optimizer.zero_grad()
        self._scaler.scale(loss if part.share == 1 else loss * part.share).backward()
        self._between = not part.last
        if part.last:
            self._step()
        return loss, logits

    def _step(self) -> None:
        """Change the weights by the gradients; nothing here waits for the device, if the optimizer is a fused one."""
        if self._config.clip_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._trained, self._config.clip_grad_norm)
        self._scaler.step(self.optimizer)  # leaves out a step whose gradients overflowed
        self._scaler.update()
        if self._average is not None:
            self._average.update()

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on learning, as tensors and plain values; None for what is not used."""
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict() or None,
            "average": None if self._average is None else self._average.state_dict(),
            "gradients": gradients if self._between else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; `state` may have other keys, and need not have those of what is not used."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        gradients = state.get("gradients")
        self._between = gradients is not None
        for name, parameter in self.model.named_parameters():
            gradient = (gradients or {}).get(name)
            parameter.grad = None if gradient is None else gradient.to(self._device, copy=True)


def _head(model: nn.Module) -> list[nn.Parameter]:
    try:
        return [p for module in head_modules(model).values() for p in module.parameters()]
    except ConfigError:  # a net of another kind
        return []


def _compiled(model: nn.Module) -> nn.Module:
    """Return what computes the same as `model`, compiled when it is called first.

    A kernel for each size of batch, so that a trial continues to the last bit: one for all sizes would depend on which
    size came first.
    """
    torch.compiler.reset()  # kernels of earlier trials count towards a limit, beyond which nothing is compiled
    return cast(nn.Module, torch.compile(model, dynamic=False))
