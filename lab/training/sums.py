"""Running totals of an epoch, kept on the device and read once at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Sums"]


@dataclass
class Sums:
    """Loss and number of correct predictions of each step, [steps planned]; `steps` of them are done.

    Nothing waits for the device until a result is requested.
    """

    losses: Tensor
    correct: Tensor
    steps: int = 0
    sizes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, steps: int, device: torch.device) -> Sums:
        """Return empty sums for this many steps."""
        return cls(torch.zeros(steps, device=device), torch.zeros(steps, dtype=torch.int64, device=device))

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add the results of a step: its mean loss, logits [B, classes] and labels.

        Args:
            loss: a scalar.
            logits: float [B, classes].
            labels: int64 [B]; or, if mixed, float [B, classes], of which the larger one counts.
        """
        if labels.ndim == 2:
            labels = labels.argmax(1)
        self.losses[self.steps] = loss.detach()
        self.correct[self.steps] = (logits.argmax(1) == labels).sum()
        self.sizes.append(len(labels))
        self.steps += 1

    @property
    def images(self) -> int:
        """Number of images seen."""
        return sum(self.sizes)

    def finite_steps(self) -> int:
        """Return the number of steps before the first NaN or infinite loss (all if there is none)."""
        wrong = ~torch.isfinite(self.losses[: self.steps])
        return int(wrong.int().argmax()) if bool(wrong.any()) else self.steps

    def metrics(self, steps: int) -> dict[str, float]:
        """Return the mean loss over the first `steps`, and the accuracy over all."""
        sizes = torch.tensor(self.sizes[:steps], device=self.losses.device)
        loss = (self.losses[:steps] * sizes).sum() / sizes.sum()
        return {"train_loss": loss.item(), "train_accuracy": self.correct.sum().item() / self.images}

    def windows(self, length: int, steps: int) -> dict[int, dict[str, float]]:
        """Return loss and accuracy over windows of `length` of the first `steps`, by the last step of each, from 1."""
        losses, correct = self.losses[:steps].tolist(), self.correct[:steps].tolist()
        found = {}
        for start in range(0, steps, length):
            stop = min(start + length, steps)
            sizes = self.sizes[start:stop]
            weighted = sum(loss * size for loss, size in zip(losses[start:stop], sizes, strict=True))
            found[stop] = {
                "step_loss": weighted / sum(sizes),
                "step_accuracy": sum(correct[start:stop]) / sum(sizes),
            }
        return found

    def peak(self, steps: int) -> tuple[int, float]:
        """Return number, from 1, and loss of the step with the highest loss among the first `steps`."""
        step = int(self.losses[:steps].argmax())
        return step + 1, self.losses[step].item()

    def worst(self, fraction: float) -> list[int]:
        """Return the numbers of the `fraction` of steps (at least one) with the highest loss, in ascending order."""
        count = max(1, round(fraction * self.steps))
        highest: list[int] = self.losses[: self.steps].topk(count).indices.tolist()
        return sorted(highest)
