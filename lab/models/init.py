"""Weight initialisation."""

from __future__ import annotations

from torch import nn

__all__ = ["initialize"]


def initialize(model: nn.Module, init: str) -> None:
    """Redraw the weights of convolutions and linear layers of `model` in place, and set their biases to 0.

    Args:
        model: any model; norms keep their ones and zeros.
        init: `default` changes nothing; `kaiming` draws from a normal distribution
            (He et al. 2015, arXiv:1502.01852), `xavier` from a uniform one (Glorot & Bengio 2010).
    """
    if init == "default":
        return
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if init == "kaiming":
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
