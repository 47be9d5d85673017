"""An average of a model's weights over the optimizer steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Average"]


class Average:
    """An exponential moving average of weights and running statistics, in a model of its own.

    It begins with the weights after the first step. Polyak & Juditsky 1992; exponential as in Tarvainen & Valpola
    2017, arXiv:1703.01780. Like `torch.optim.swa_utils.AveragedModel` with `use_buffers`, and with the function that
    torch has for it; but that class copies its counter to the device at each step, which makes the host wait.

    Args:
        model: to average; on its device already.
        decay: weight of the average so far in each update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._begun = False
        self._lerp = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]  # of batches seen

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights after an optimizer step."""
        copied = self._counts if self._begun else [*self._counts, *self._floats]
        for own, its in copied:
            own.copy_(its)
        if self._begun:
            self._lerp([own for own, _ in self._floats], [its for _, its in self._floats], 0)
        self._begun = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state to continue from."""
        return {"model": self.model.state_dict(), "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.model.load_state_dict(state["model"])
        self._begun = state["begun"]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return (tensor.detach() for tensor in chain(model.parameters(), model.buffers()))
