"""Muon for the weights of hidden layers, together with AdamW for all others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim import Muon as _MatrixMuon

__all__ = ["Muon"]

_BETAS = (0.9, 0.95)  # of AdamW, as Jordan recommends beside Muon


class Muon(Optimizer):
    """Orthogonalises the updates of hidden weights (Jordan 2024, https://kellerjordan.github.io/posts/muon).

    torch's Muon takes matrices only. The kernel of a convolution is one here, with a row for each filter, as in
    Jordan's own code. Biases, norms, embeddings (of positions, [1, N, D]) and the head are left to AdamW, as he
    recommends. Both use one learning rate, since Muon's updates are scaled to the size of AdamW's (Liu et al. 2025,
    arXiv:2502.16982).

    Its groups contain the parameters as they are, for whatever clips, unscales or schedules; each belongs to an
    optimizer of torch's that does the work.

    Args:
        params: parameters, or groups of them, each of which may have its own `lr`.
        lr: learning rate.
        momentum: of Muon.
        nesterov: whether Muon's momentum is Nesterov's.
        weight_decay: decoupled, of both.
        head: parameters that are left to AdamW whatever their shape.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        head: Collection[nn.Parameter] = (),
    ) -> None:
        groups = [half for group in _groups(params) for half in _halves(group, set(map(id, head)))]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        settings: dict[str, Any] = {
            "momentum": momentum,
            "nesterov": nesterov,
            "adjust_lr_fn": "match_rms_adamw",
        }
        self._workers: list[Optimizer] = []
        for group in self.param_groups:
            common: dict[str, Any] = {"lr": group["lr"], "weight_decay": weight_decay}
            if group["matrices"]:
                views = [_matrix(p.detach(), p) for p in group["params"]]
                self._workers.append(_MatrixMuon(views, **common, **settings))
            else:
                self._workers.append(AdamW(group["params"], betas=_BETAS, fused=True, **common))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do an optimizer step with the gradients that there are; `closure` is not used."""
        for group, worker in zip(self.param_groups, self._workers, strict=True):
            (inner,) = worker.param_groups
            inner["lr"] = group["lr"]
            if not group["matrices"]:
                worker.step()
                continue
            for own, view in zip(group["params"], inner["params"], strict=True):
                view.grad = None if own.grad is None else _matrix(own.grad, own)
            worker.step()
            worker.zero_grad()  # the gradient's memory is the parameter's to free

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all, in the form of an optimizer with these groups."""
        states: dict[int, Any] = {}
        for start, worker in self._numbered():
            states |= {start + at: kept for at, kept in worker.state_dict()["state"].items()}
        return {**super().state_dict(), "state": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict({**state_dict, "state": {}})
        for start, worker in self._numbered():
            inner = worker.state_dict()
            numbers = inner["param_groups"][0]["params"]
            states = {
                at: state_dict["state"][start + at] for at in numbers if start + at in state_dict["state"]
            }
            worker.load_state_dict({**inner, "state": states})

    def _numbered(self) -> Iterator[tuple[int, Optimizer]]:
        """Yield each worker with the number that the whole state gives to its first parameter."""
        start = 0
        for group, worker in zip(self.param_groups, self._workers, strict=True):
            yield start, worker
            start += len(group["params"])


def _groups(params: Iterable[nn.Parameter] | Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    given: list[Any] = list(params)
    return given if given and isinstance(given[0], dict) else [{"params": given}]


def _halves(group: dict[str, Any], kept: set[int]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a group that are hidden weights, and the others, as groups."""
    for matrices in (True, False):
        half = [p for p in group["params"] if (_is_matrix(p) and id(p) not in kept) is matrices]
        if half:
            yield {**group, "params": half, "matrices": matrices}


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether it is a matrix or a convolution's kernel, and not a vector in such a shape, [1, N] or [C, 1, 1, 1]."""
    return parameter.ndim in (2, 4) and 1 < len(parameter) < parameter.numel()


def _matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a parameter or its gradient as a matrix [first dimension, others]; a view wherever memory allows.

    A kernel that is channels last in memory is read in that order: the order of a matrix's columns does not matter.
    """
    if like.ndim == 4 and not like.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)  # [O, kH, kW, I], contiguous
    return tensor.view(len(tensor), -1) if tensor.is_contiguous() else tensor.reshape(len(tensor), -1)
