"""Blocks that can replace a conv layer: residual, pre-activated residual, inverted residual."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["Activation", "InvertedResidual", "Norm", "Preact", "Residual"]

Activation = Callable[[], nn.Module]
Norm = Callable[[int], nn.Module]  # takes the number of channels


class Residual(nn.Module):
    """A residual block, activation(shortcut(x) + convolutions(x)).

    [B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]. Each of `depth` convolutions has its own
    norm, with activations in between. The shortcut is the identity, or a 1×1 convolution with its own norm if the
    channels or the stride differ.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: odd, so that the padded convolutions match the size of the shortcut.
        stride: of the first convolution and the shortcut.
        depth: number of convolutions.
        norm: makes a norm for a number of channels; None for no norm.
        activation: makes an activation.
        bias: whether convolutions have a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        depth: int = 2,
        norm: Norm | None = None,
        activation: Activation = nn.ReLU,
        bias: bool = True,
    ) -> None:
        super().__init__()
        body: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, depth + 1):
            if number > 1:
                body[f"activation{number - 1}"] = activation()
            body[f"conv{number}"] = _conv(inputs, outputs, kernel_size, stride, number, bias)
            if norm:
                body[f"norm{number}"] = norm(outputs)
        self.body = nn.Sequential(body)
        self.shortcut = _shortcut(inputs, outputs, stride, norm, bias)
        self.activation = activation()

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's output, [B, inputs, H, W] -> [B, outputs, H', W']."""
        output: Tensor = self.activation(self.shortcut(images) + self.body(images))
        return output


class Preact(nn.Module):
    """A pre-activated residual block, shortcut(x) + convolutions(x), norm and activation before each convolution.

    [B, inputs, H, W] -> [B, outputs, ceil(H / stride), ceil(W / stride)]. Nothing follows the sum, so consecutive
    blocks share one identity path; a norm and an activation belong after the last of them. The shortcut is the
    identity, or a bare 1×1 convolution if the channels or the stride differ.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.

    Args: as for `Residual`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        depth: int = 2,
        norm: Norm | None = None,
        activation: Activation = nn.ReLU,
        bias: bool = True,
    ) -> None:
        super().__init__()
        body: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, depth + 1):
            if norm:
                body[f"norm{number}"] = norm(inputs if number == 1 else outputs)
            body[f"activation{number}"] = activation()
            body[f"conv{number}"] = _conv(inputs, outputs, kernel_size, stride, number, bias)
        self.body = nn.Sequential(body)
        self.shortcut = _shortcut(inputs, outputs, stride, None, bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's output, [B, inputs, H, W] -> [B, outputs, H', W']."""
        output: Tensor = self.shortcut(images) + self.body(images)
        return output


class InvertedResidual(nn.Module):
    """A 1×1 convolution that widens, a depthwise one, and a 1×1 one that narrows, each with its own norm.

    [B, inputs, H, W] -> [B, outputs, H', W']. The input is added if the number of channels stays the same and the
    stride is 1. No activation follows the last convolution: it would destroy information in the few channels.

    Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        padding: of the depthwise convolution; it must preserve the size if the input is added.
        expansion: channels of the depthwise convolution, as a multiple of `inputs`.
        norm: makes a norm for a number of channels; None for no norm.
        activation: makes an activation.
        bias: whether convolutions have a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        expansion: int = 3,
        norm: Norm | None = None,
        activation: Activation = nn.ReLU6,
        bias: bool = True,
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        convolutions = {
            "expand": nn.Conv2d(inputs, wide, 1, bias=bias),
            "depthwise": nn.Conv2d(wide, wide, kernel_size, stride, padding, groups=wide, bias=bias),
            "project": nn.Conv2d(wide, outputs, 1, bias=bias),
        }
        body: OrderedDict[str, nn.Module] = OrderedDict()
        for name, convolution in convolutions.items():
            body[name] = convolution
            if norm:
                body[f"{name}_norm"] = norm(convolution.out_channels)
            if name != "project":
                body[f"{name}_activation"] = activation()
        self.body = nn.Sequential(body)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's output, [B, inputs, H, W] -> [B, outputs, H', W']."""
        output: Tensor = self.body(images)
        return images + output if self.adds else output


def _conv(inputs: int, outputs: int, kernel_size: int, stride: int, number: int, bias: bool) -> nn.Conv2d:
    """Return a block's convolution with this number: the first one changes channels and size."""
    if number > 1:
        inputs, stride = outputs, 1
    return nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=bias)


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm | None, bias: bool) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(inputs, outputs, 1, stride, bias=bias))
    if norm:
        layers["norm"] = norm(outputs)
    return nn.Sequential(layers)
