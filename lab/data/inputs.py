"""The images that pretrained weights were trained on: their size and scale, which training takes over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lab import registry
from lab.config import TrialConfig

__all__ = ["Inputs", "inputs_note", "takes_over", "weights_inputs", "weights_scale", "with_weights_size"]


@dataclass(frozen=True)
class Inputs:
    """The input of a net's pretrained weights.

    Attributes:
        weights: names the net and the weights.
        size: height and width in pixels.
        mean: of the three channels, for pixels from 0 to 1.
        std: like `mean`.
    """

    weights: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def weights_inputs(config: TrialConfig) -> Inputs | None:
    """Return the input of the weights that the config's architecture has, whether it starts from them or not."""
    library = registry.architectures[config.architecture].load_library()
    inputs: Inputs | None = None if library is None else library.inputs(config)
    return inputs


def takes_over(config: TrialConfig) -> bool:
    """Whether the config starts from pretrained weights or has the scale of their images."""
    return bool(config.pretrained or config.weights or config.input_scale == "weights")


def with_weights_size(config: TrialConfig) -> TrialConfig:
    """Return `config` with the `image_size` of its pretrained weights, if it leaves that open."""
    takes_size = "image_size" in registry.datasets[config.dataset].options
    if config.image_size is not None or not takes_size or not (config.pretrained or config.weights):
        return config
    inputs = weights_inputs(config)
    return config if inputs is None else config.model_copy(update={"image_size": inputs.size})


def weights_scale(config: TrialConfig, channels: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation, [C], of the images that the weights were trained on.

    Images with other than three channels get the mean of both over the channels.
    """
    inputs = weights_inputs(config)
    if inputs is None:  # a net of the user's own that was replaced by one without
        return torch.zeros(channels), torch.ones(channels)
    mean, std = torch.tensor(inputs.mean), torch.tensor(inputs.std)
    if channels == len(mean):
        return mean, std
    return mean.mean().repeat(channels), std.mean().repeat(channels)


def inputs_note(config: TrialConfig, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return how images of `shape` [C, H, W] are given to a net with pretrained weights; empty without them."""
    inputs = weights_inputs(config) if takes_over(config) else None
    if inputs is None:
        return ()
    mean, std = weights_scale(config, shape[0])
    numbers = f"mean {_listed(mean)}, deviation {_listed(std)}"
    scale = (
        f"the weights' {numbers}" if config.input_scale == "weights" else f"input_scale={config.input_scale}"
    )
    theirs = f"{inputs.weights} was trained on 3×{inputs.size}×{inputs.size}"
    return (f"input: images of {'×'.join(map(str, shape))} with {scale}; {theirs}",)


def _listed(values: Tensor) -> str:
    return "/".join(f"{value:.3g}" for value in values.tolist())
