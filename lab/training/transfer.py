"""Starting from the weights of a trained model instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lab.errors import ConfigError, Fault
from lab.models import head_layer

__all__ = ["fitting_weights", "load_pretrained"]


def load_pretrained(model: nn.Module, weights: Mapping[str, Tensor], *, new_head: bool) -> None:
    """Copy trained `weights` into `model`, except the head's if `new_head`.

    Raises:
        ConfigError: they do not fit; see `fitting_weights`.
    """
    model.load_state_dict(fitting_weights(model, weights, new_head=new_head), strict=False)


def fitting_weights(model: nn.Module, weights: Mapping[str, Tensor], *, new_head: bool) -> dict[str, Tensor]:
    """Return the part of `weights` to load into `model`; only names and shapes matter, so both may be on meta.

    Args:
        model: to load into.
        weights: state dict of a trained model.
        new_head: whether to leave out the last linear layer.

    Raises:
        ConfigError: a tensor is missing on one side, or has another shape; names it and both shapes.
    """
    head = f"{head_layer(model)[0]}."
    here = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)}
    there = {name: tensor for name, tensor in weights.items() if not name.startswith(head)}
    if not new_head:
        here, there = dict(model.state_dict()), dict(weights)
    for name in [*here, *there]:
        ours, theirs = _shape(here, name), _shape(there, name)
        if ours != theirs:
            raise ConfigError(
                Fault(
                    f"the trained model does not fit: its {name} is {theirs}, this one's is {ours}",
                    "init_from",
                )
            )
    return there


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    if name not in tensors:
        return "missing"
    return "×".join(map(str, tensors[name].shape)) or "a number"
