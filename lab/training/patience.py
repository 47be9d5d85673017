"""Early stopping: remembers the best value, and counts the epochs since."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Patience"]


class Patience:
    """Watches one metric. An epoch is an improvement if it beats the best so far by more than `min_delta`.

    Args:
        mode: "max" if higher is better, "min" if lower is.
        patience: epochs without improvement after which it is exhausted; None means never.
        min_delta: change that an improvement must exceed.
    """

    def __init__(self, mode: str, patience: int | None, min_delta: float = 0.0) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._patience = patience
        self._min_delta = min_delta
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self._waited = 0

    def update(self, epoch: int, value: float) -> bool:
        """Record the metric's value after `epoch`, and return whether it is the best so far; NaN never is."""
        improved = not math.isnan(value) and (
            self.best_value is None or self._sign * (value - self.best_value) > self._min_delta
        )
        if improved:
            self.best_value, self.best_epoch, self._waited = value, epoch, 0
        else:
            self._waited += 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether `patience` epochs in a row were no improvement."""
        return self._patience is not None and self._waited >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state to continue from."""
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.best_value, self.best_epoch = state["best_value"], state["best_epoch"]
        self._waited = state["waited"]
