"""Layers that compute what torch's do, on a way around its slow kernels on a CPU."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["Flatten", "avoid_slow_kernels"]

# the only depthwise convolution that has fast kernels in bf16, forward and backward
_FAST: Final = ((3, 3), (1, 1))  # kernel size and stride


class Flatten(nn.Flatten):
    """Flattens maps, [B, C, H, W] -> [B, C * H * W], and returns their gradient channels last, as maps are.

    Otherwise it would be contiguous, and the backward pass of a pooling before it would copy all its tensors into that
    order and back.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the flattened maps."""
        if images.requires_grad and not torch.compiler.is_compiling():  # a compiler chooses the order itself
            images.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        return super().forward(images)


def avoid_slow_kernels(model: nn.Module) -> None:
    """Let depthwise convolutions of `model` compute in fp32 under autocast on a CPU, unless they are fast there.

    oneDNN 3.12 has no fast kernel for the gradient of a strided depthwise convolution in bf16: what it does instead
    takes thirty times as long as fp32. Its kernel for the weights of larger windows takes twice as long.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_slow(module):
            module.__class__ = _Float32Conv2d


def _is_slow(convolution: nn.Conv2d) -> bool:
    depthwise = convolution.groups == convolution.in_channels > 1
    return depthwise and (convolution.kernel_size, convolution.stride) != _FAST


class _Float32Conv2d(nn.Conv2d):
    """A convolution that computes in fp32 under autocast on a CPU; its output has the precision of its input."""

    def forward(self, images: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            return super().forward(images.float()).to(images.dtype)


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
