"""The size of a model: parameters, buffers, mult-adds and a table of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from lab.errors import ConfigError, Fault

__all__ = ["Layer", "Summary", "counts_by_layer", "summarize"]

# What these modules define computes no products but those of the convolutions and linear layers in it.
_PLAIN: Final = frozenset(
    {
        "lab.models.blocks",
        "lab.models.kernels",
        *(
            f"torch.nn.modules.{name}"
            for name in (
                *("activation", "batchnorm", "container", "conv", "dropout"),
                *("flatten", "linear", "pooling"),
            )
        ),
        *(
            f"torchvision.models.{name}"
            for name in (
                *("alexnet", "densenet", "efficientnet", "mnasnet", "mobilenetv2", "mobilenetv3"),
                *("regnet", "resnet", "shufflenetv2", "squeezenet", "vgg"),
            )
        ),
        "torchvision.ops.misc",
        "torchvision.ops.stochastic_depth",
    }
)
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)
_PRODUCTS: Final = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """A module that computes something itself: a leaf, or one with parameters of its own besides its children's.

    It has a name, type, output shape without the batch dimension, and number of parameters of its own.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int


@dataclass(frozen=True)
class Summary:
    """A model's size. `params` counts trainable and frozen parameters, `buffers` the running statistics.

    `pointwise_norms` are trained batch normalisations that get a single value per channel and image: a batch of one
    image has no deviation there.
    """

    params: int
    trainable_params: int
    buffers: int
    mult_adds: int
    layers: tuple[Layer, ...]
    pointwise_norms: tuple[str, ...] = ()

    def facts(self) -> dict[str, float]:
        """Return what constraints can refer to and every run logs as metrics."""
        return {
            "params": self.params,
            "trainable_params": self.trainable_params,
            "buffers": self.buffers,
            "mult_adds": self.mult_adds,
        }

    def table(self) -> str:
        """Return the table of layers as text, for the run's artifacts."""
        rows = [("layer", "type", "output shape", "params")]
        rows += [(r.name, r.type, "×".join(map(str, r.output_shape)), f"{r.params:,}") for r in self.layers]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join(
                cell.rjust(size) if column == 3 else cell.ljust(size)
                for column, (cell, size) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        totals = (
            f"trainable params {self.trainable_params:,} · params {self.params:,} · "
            f"buffers {self.buffers:,} · mult-adds {self.mult_adds / 1e6:,.2f} M (one image)"
        )
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", totals, ""])


def summarize(model: nn.Module, shape: tuple[int, int, int], classes: int | None = None) -> Summary:
    """Return the summary of `model` for one image of `shape` [C, H, W].

    Nothing is computed if the model is on the meta device. Mult-adds are those of convolutions and matrix products in
    the forward pass, without biases: half the FLOPs that `torch.utils.flop_counter` counts.

    Args:
        model: in any mode; it is counted in evaluation mode.
        shape: channels, height and width of an image.
        classes: number of outputs that it must have; None accepts any.

    Raises:
        ConfigError: it has other outputs.
    """
    layers: list[Layer] = []
    hooks = [
        module.register_forward_hook(_recorder(name, layers))
        for name, module in model.named_modules()
        if _computes(module)
    ]
    training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in trained:  # the counter cannot bear one that a module is called with
            parameter.requires_grad_(False)
        outputs, mult_adds = _run(model, shape, layers)
    finally:
        model.train(training)
        for parameter in trained:
            parameter.requires_grad_(True)
        for hook in hooks:
            hook.remove()
    _check_outputs(outputs, classes)
    return Summary(
        params=sum(p.numel() for p in model.parameters()),
        trainable_params=sum(p.numel() for p in model.parameters() if p.requires_grad),
        buffers=sum(
            b.numel() for name, b in model.named_buffers() if not name.endswith("num_batches_tracked")
        ),
        mult_adds=mult_adds,
        layers=tuple(layers),
        pointwise_norms=_pointwise_norms(model, layers),
    )


def counts_by_layer(model: nn.Module) -> bool:
    """Return whether the mult-adds of `model` are those of its convolutions and linear layers, and no others.

    Their outputs' shapes then say how many there are. Torch's counter says it for all models, but imports its compiler
    first: that takes longer than most commands that look.
    """
    return all(
        type(module).__module__ in _PLAIN
        and (isinstance(module, _PRODUCTS + _NORMS) or not [*module.parameters(recurse=False)])
        for module in model.modules()
    )


def _run(model: nn.Module, shape: tuple[int, int, int], layers: list[Layer]) -> tuple[object, int]:
    """Return the outputs for one image, and the mult-adds; `layers` are those that the model's hooks record."""
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)  # [1, C, H, W]
    with torch.no_grad():
        if counts_by_layer(model):
            with _OnlyShapes():
                outputs = model(image)
            return outputs, sum(_mult_adds(model.get_submodule(layer.name), layer) for layer in layers)
        with FlopCounterMode(display=False) as flops:
            outputs = model(image)
    return outputs, flops.get_total_flops() // 2


class _OnlyShapes(TorchFunctionMode):
    """Inside the block, outputs of convolutions and linear layers have their shape, and any values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d and not kwargs:
            images, weight, _bias, stride, padding, dilation, groups = args
            if images.shape[1] == weight.shape[1] * groups:  # if not, torch refuses them
                one = func(images[:, :1], weight[:1, :1], None, stride, padding, dilation)  # [1, 1, H, W]
                return one.repeat(1, len(weight), 1, 1)
        elif func is F.linear and args[0].shape[-1] == args[1].shape[-1]:
            return args[0].new_zeros(*args[0].shape[:-1], len(args[1]))
        return func(*args, **(kwargs or {}))


def _mult_adds(module: nn.Module, layer: Layer) -> int:
    return math.prod(layer.output_shape) * module.weight[0].numel() if isinstance(module, _PRODUCTS) else 0


def _check_outputs(outputs: object, classes: int | None) -> None:
    if classes is not None and not (isinstance(outputs, Tensor) and outputs.shape == (1, classes)):
        given = (
            "×".join(map(str, outputs.shape[1:])) if isinstance(outputs, Tensor) else type(outputs).__name__
        )
        message = f"must give one value for each of {classes} classes, but gives {given} for an image"
        if isinstance(outputs, Tensor) and outputs.ndim > 2:
            message += ", like an encoder without a classifier"
        raise ConfigError(Fault(message, "architecture"))


def _pointwise_norms(model: nn.Module, layers: list[Layer]) -> tuple[str, ...]:
    trained = {
        name
        for name, module in model.named_modules()
        if isinstance(module, _NORMS)
        and any(p.requires_grad for p in module.parameters())  # a frozen one keeps its statistics
    }
    return tuple(
        layer.name for layer in layers if layer.name in trained and math.prod(layer.output_shape[1:]) == 1
    )


def _computes(module: nn.Module) -> bool:
    own = next(module.parameters(recurse=False), None) is not None
    return own or next(module.children(), None) is None


def _recorder(name: str, layers: list[Layer]):  # type: ignore[no-untyped-def]  # torch's hook type is loose
    def record(module: nn.Module, _inputs: object, output: object) -> None:
        while isinstance(output, tuple | list) and output:  # attention also returns its weights, for example
            output = output[0]
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        params = sum(p.numel() for p in module.parameters(recurse=False))
        layers.append(Layer(name, type(module).__name__, shape, params))

    return record
