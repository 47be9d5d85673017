"""From a config to its augmentations, and what is wrong with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lab import registry
from lab.config import TrialConfig
from lab.data.augment.mixing import Mixing, mix
from lab.errors import ConfigError, Fault

__all__ = ["Augmentation", "LabelledMixing", "augmentation_faults", "build_augmentations", "build_mixing"]

#: Takes images, uint8 [B, C, H, W], and the CPU generator to draw from; returns images of the same shape.
Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]

#: Takes normalised images, float [B, C, H, W], their labels, int64 [B], and the CPU generator to draw from; returns
#: images of the same shape, and the share of each class, float [B, classes].
LabelledMixing: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def build_augmentations(config: TrialConfig) -> tuple[Augmentation, ...]:
    """Return those augmentations of `config.augment` that change images, in order, with their options."""
    return tuple(_bind(name, config, _checked) for name in config.augment if not _mixes(name))


def build_mixing(config: TrialConfig, classes: int) -> LabelledMixing | None:
    """Return what mixes images and labels, or None if nothing in `config.augment` does.

    Of several, each image gets one, all equally likely.
    """
    mixings: tuple[Mixing, ...] = tuple(
        _bind(name, config, _checked_mixing) for name in config.augment if _mixes(name)
    )
    return partial(mix, mixings=mixings, classes=classes) if mixings else None


def augmentation_faults(config: TrialConfig, shape: tuple[int, int, int]) -> list[Fault]:
    """Return what is wrong with the augmentations for images of this shape, [C, H, W]."""
    return [*_order_faults(config.augment), *_padding_faults(config, min(shape[1:]))]


def _order_faults(names: tuple[str, ...]) -> list[Fault]:
    mixing = [name for name in names if _mixes(name)]
    right = (*(name for name in names if name not in mixing), *mixing)
    if names == right:
        return []
    message = f"{mixing[0]} mixes images that are otherwise finished, so it must come last"
    return [Fault(f"{message}; write {','.join(right)}", "augment")]


def _padding_faults(config: TrialConfig, side: int) -> list[Fault]:
    if config.crop_padding is None or config.crop_padding < side:
        return []
    message = f"must be less than the shorter side of the images ({side}), but got {config.crop_padding}"
    return [Fault(f"{message}; crops would be all black", "crop_padding")]


def _mixes(name: str) -> bool:
    """Whether an augmentation mixes images: it takes their labels, too."""
    return "labels" in inspect.signature(registry.augmentations[name].load()).parameters


def _bind(name: str, config: TrialConfig, checked: Callable[[Any, str], Any]) -> Any:
    """Return an augmentation with its options; a plug-in's is checked at each batch, which no batch waits for."""
    entry = registry.augmentations[name]
    bound = partial(entry.load(), **entry.arguments(config))
    return checked(bound, name) if not isinstance(entry.target, str) else bound


def _checked(augment: Augmentation, name: str) -> Augmentation:
    def checked(images: Tensor, generator: torch.Generator) -> Tensor:
        changed = augment(images, generator)
        _require_alike(changed, images, f"'{name}' must return images as it gets them")
        return changed

    return checked


def _checked_mixing(mixing: Mixing, name: str) -> Mixing:
    def checked(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mixed, shares = mixing(images, labels, generator)
        _require_alike(mixed, images, f"'{name}' must return images as it gets them")
        _require_alike(shares, labels, f"'{name}' must return labels as it gets them")
        return mixed, shares

    return checked


def _require_alike(found: Any, given: Tensor, rule: str) -> None:
    if _described(found) != _described(given):
        raise ConfigError(Fault(f"{rule}, {_described(given)}, but got {_described(found)}", "augment"))


def _described(found: Any) -> str:
    if not isinstance(found, Tensor):
        return type(found).__name__
    return f"{str(found.dtype).removeprefix('torch.')} {list(found.shape)} on {found.device}"
