"""The epoch in progress: its order, its sums so far, and how to continue in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lab.training.sums import Sums

__all__ = ["UnderWay"]


@dataclass
class UnderWay:
    """An epoch of which some steps may be done.

    Args:
        order: of the images, int64 [N].
        sums: over the steps done.
        lr: learning rate at the start of the epoch.
        seconds: time it took earlier, in another process.
    """

    order: Tensor
    sums: Sums
    lr: float
    seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds that the epoch has taken so far."""
        return self.seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "order": self.order,
            "losses": self.sums.losses,
            "correct": self.sums.correct,
            "sizes": list(self.sums.sizes),
            "lr": self.lr,
            "seconds": self.elapsed,
        }

    @classmethod
    def of(
        cls, state: Mapping[str, Any], *, images: int, steps: int, repeats: bool = False, device: torch.device
    ) -> UnderWay:
        """Return the epoch saved by `state_dict`.

        Args:
            state: from `state_dict`.
            images: number of images of the training split.
            steps: number of steps of a whole epoch.
            repeats: whether its order may repeat images and leave out others.
            device: to train on.

        Raises:
            ValueError: the state does not fit such an epoch.
        """
        order, losses, correct, sizes, lr, seconds = _values(state)
        right = (
            _is_order(order, images, repeats)
            and _is(losses, steps, torch.float32)
            and _is(correct, steps, torch.int64)
            and isinstance(sizes, list)
            and len(sizes) <= steps
            and all(type(size) is int and size > 0 for size in sizes)
            and isinstance(lr, float)
            and isinstance(seconds, float)
        )
        if not right:
            raise ValueError("the checkpoint's under_way is malformed")
        sums = Sums(losses.to(device), correct.to(device), len(sizes), list(sizes))
        return cls(order.to(device), sums, lr, seconds)


def _values(state: Mapping[str, Any]) -> list[Any]:
    return [state.get(key) for key in ("order", "losses", "correct", "sizes", "lr", "seconds")]


def _is_order(found: Any, images: int, repeats: bool) -> bool:
    if not _is(found, images, torch.int64):
        return False
    if repeats:
        return bool(((found >= 0) & (found < images)).all())
    return bool((found.sort().values == torch.arange(images)).all())


def _is(found: Any, length: int, dtype: torch.dtype) -> bool:
    return isinstance(found, Tensor) and tuple(found.shape) == (length,) and found.dtype == dtype
