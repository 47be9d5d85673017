"""Starting from the weights of a trained model instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lab.errors import ConfigError, Fault
from lab.models import first_difference, head_modules

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
        new_head: whether to leave out the layer whose outputs are the classes.

    Raises:
        ConfigError: a tensor is missing on one side, or has another shape; names it and both shapes.
    """
    here, there = dict(model.state_dict()), dict(weights)
    if new_head:
        head = tuple(f"{name}." for name in head_modules(model))
        here, there = (
            {name: tensor for name, tensor in both.items() if not name.startswith(head)}
            for both in (here, there)
        )
    different = first_difference(here, there)
    if different:
        raise ConfigError(Fault(f"the trained model does not fit: {different}", "init_from"))
    return there
