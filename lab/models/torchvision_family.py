"""All classification nets of torchvision, adapted to the images and the number of classes.

`torchvision/resnet18` is torchvision's own net, which its weights and those of others fit; `resnet18` is lab's, made
for small images too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lab.config import TrialConfig, weights_file
from lab.data.inputs import Inputs
from lab.errors import ConfigError, Fault
from lab.models.library import Pretrained
from lab.models.parts import last_classifier, parts_from_children, set_parts
from lab.models.reading import fetched, first_difference, reason
from lab.registry import suggest
from lab.torchvision_import import import_torchvision

__all__ = ["LIBRARY", "build"]

_COLOURS: Final = 3

# Their published weights come from TensorFlow and expect pixels from -1 to 1, whatever torchvision's transforms say:
# the nets convert them, if they are told to. Here the pixels come in this scale in the first place.
_OF_TENSORFLOW: Final = ("googlenet", "inception_v3")

# Auxiliary classifiers, which only training from scratch on ImageNet uses.
_AUXILIARY: Final = ("AuxLogits.", "aux1.", "aux2.")

# Names that DenseNet's published weights have for the layers that are called norm1, conv1 and so on.
_OLD_DENSENET: Final = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the net of torchvision that `config` names, [B, C, H, W] -> [B, classes], with random weights.

    Raises:
        ConfigError: the net cannot be made for such images.
    """
    channels, height, width = shape
    name = _name(config)
    try:
        net = _models().get_model(name, num_classes=classes, **_options(config, name, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        images = "×".join(map(str, shape))
        message = f"{config.architecture} cannot be made for images of {images}: {reason(error)}"
        raise ConfigError(Fault(message, "architecture")) from None
    if channels != _COLOURS:
        _replace_first(net, channels)
    set_parts(net, parts_from_children(net, last_classifier(net)))
    return net  # type: ignore[no-any-return]


class _Torchvision:
    def names(self) -> frozenset[str]:
        return _names()

    def inputs(self, config: TrialConfig) -> Inputs:
        chosen = _chosen(config)
        usual = chosen.transforms()
        mean, std = tuple(usual.mean), tuple(usual.std)
        if _name(config) in _OF_TENSORFLOW:
            mean = std = (0.5,) * _COLOURS
        return Inputs(f"{config.architecture} ({chosen.name})", int(usual.crop_size[0]), mean, std)

    def source(self, config: TrialConfig) -> str:
        return str(_chosen(config).url)

    def published(self, config: TrialConfig, *, download: bool) -> Path | None:
        return fetched(self.source(config), download)

    def fit(
        self, config: TrialConfig, weights: Mapping[str, Tensor], shape: tuple[int, int, int], classes: int
    ) -> Pretrained:
        with torch.device("meta"):
            net = build(config, shape, classes)
        own, (head,) = net.state_dict(), last_classifier(net)
        theirs = _present(weights)
        if f"{head}.weight" not in theirs:
            raise ValueError(first_difference(own, theirs))
        new_head = len(theirs[f"{head}.weight"]) != classes
        if new_head:
            own, theirs = (
                {n: t for n, t in both.items() if not n.startswith(f"{head}.")} for both in (own, theirs)
            )
        _fit_first(net, theirs, shape[0])
        _fit_positions(net, own, theirs)
        different = first_difference(own, theirs)
        if different:
            raise ValueError(different)
        return Pretrained(theirs, new_head)


LIBRARY = _Torchvision()


def _models() -> Any:
    return import_torchvision("torchvision.models")


@functools.cache
def _names() -> frozenset[str]:
    models = _models()
    return frozenset(models.list_models(module=models))


def _name(config: TrialConfig) -> str:
    return config.architecture.removeprefix("torchvision/")


def _chosen(config: TrialConfig) -> Any:
    """Return torchvision's member for the weights that the config names, the default ones for a file or none.

    Raises:
        ConfigError: there are none of this name.
    """
    known = _models().get_model_weights(_name(config))
    name = config.weights if config.weights and not weights_file(config) else "DEFAULT"
    members = known.__members__
    if name not in members:
        hint = f"{suggest(name, members)} Known: {', '.join(members)}; a file's name has a dot"
        message = f"{config.architecture} has no weights named {name}.{hint}"
        raise ConfigError(Fault(message, "weights"))
    return members[name]


def _options(config: TrialConfig, name: str, height: int, width: int) -> dict[str, Any]:
    """Return what the net's constructor needs besides the number of classes."""
    if name.startswith("vit_"):
        if height != width:
            raise ValueError("it takes square images")
        return {"image_size": height}
    if name == "maxvit_t":
        return {"input_size": (height, width)}
    if name in _OF_TENSORFLOW:
        return {"aux_logits": False, "init_weights": True, "transform_input": False}
    return {}


def _replace_first(net: nn.Module, channels: int) -> None:
    """Replace the first convolution by one that takes this many channels, with the same kind of random weights."""
    name, conv = _first_conv(net)
    new = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # a pair
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    new.weight = nn.Parameter(_for_channels(conv.weight.detach(), channels))
    if conv.bias is not None:
        new.bias = conv.bias
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, new)


def _first_conv(net: nn.Module) -> tuple[str, nn.Conv2d]:
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a convolution's weights for three channels as ones for another number, [O, 3, K, K] -> [O, C, K, K].

    A grey image gives what the same image in three equal channels would; more channels share the weights.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // weight.shape[1]), 1, 1)[:, :channels]
    return repeated * (weight.shape[1] / channels)


def _present(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of today, without auxiliary classifiers."""
    named = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in weights.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(_AUXILIARY)}


def _fit_first(net: nn.Module, weights: dict[str, Tensor], channels: int) -> None:
    name = f"{_first_conv(net)[0]}.weight"
    found = weights.get(name)
    if found is not None and found.ndim == 4 and found.shape[1] == _COLOURS != channels:
        weights[name] = _for_channels(found, channels)


def _fit_positions(net: nn.Module, own: Mapping[str, Tensor], weights: dict[str, Tensor]) -> None:
    """Interpolate the position embeddings of a vision transformer to the size of the images."""
    name = "encoder.pos_embedding"
    if name not in own or name not in weights or own[name].shape == weights[name].shape:
        return
    vit: Any = net
    adapt = import_torchvision("torchvision.models.vision_transformer").interpolate_embeddings
    try:
        weights |= adapt(vit.image_size, vit.patch_size, dict(weights))
    except (RuntimeError, ValueError):  # they cannot be interpolated, and so remain different
        return
