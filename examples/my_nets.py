"""A net of your own; `lab sweep examples/mlp.yaml` sweeps its two hyperparameters."""

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

import lab


@lab.architecture
def mlp(
    shape: tuple[int, int, int],
    classes: int,
    *,
    alpha: Annotated[float, Field(ge=0, lt=1, description="Slope of the activation below zero.")] = 0.1,
    hidden: Annotated[tuple[int, ...], Field(description="Widths of the hidden layers.")] = (64,),
) -> nn.Module:
    """A multilayer perceptron."""
    channels, height, width = shape
    widths = (channels * height * width, *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(alpha)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
