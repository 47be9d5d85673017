"""The names a configuration can use, one small `Registry` per kind.

An entry refers to its implementation as `"module:attribute"`, so that `lab check` and `--help` can look up names
without importing torch. A plug-in registers the object itself.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.errors import ConfigError

__all__ = [
    "Addition",
    "Entry",
    "Registry",
    "activations",
    "add",
    "added",
    "architectures",
    "augmentations",
    "datasets",
    "losses",
    "nearest",
    "optimizers",
    "schedulers",
    "suggest",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'gelu'?"` for the known name most similar to `name`, or an empty string."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near else ""


@dataclass(frozen=True)
class Entry:
    """A registered implementation and the settings that it takes besides the common ones."""

    name: str
    target: Any
    options: tuple[str, ...] = ()

    def load(self) -> Any:
        """Return the implementation; one registered as `"module:attribute"` is imported."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Addition:
    """A name that a program has registered in addition to lab's own, with its kind and implementation."""

    kind: str
    name: str
    target: Any
    options: tuple[str, ...]


class Registry:
    """Names of one kind, found in any spelling (`Leaky ReLU`, `leaky-relu`, `leaky_relu`)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, target: Any, options: Iterable[str] = ()) -> None:
        """Add `target` (an object, or `"module:attribute"`) under `name`.

        Raises:
            ValueError: the name is taken.
        """
        if any(_fold(name) == _fold(taken) for taken in self._entries):
            raise ValueError(f"{self.kind} '{name}' is already registered")
        self._entries[name] = Entry(name, target, tuple(options))

    def canonical(self, name: str) -> str:
        """Return the registered spelling of `name`.

        Raises:
            ConfigError: no such name; suggests the most similar one and lists all.
        """
        for known in self._entries:
            if _fold(known) == _fold(name):
                return known
        raise ConfigError(
            f"Unknown {self.kind} '{name}'.{suggest(name, self._entries)} Known: {', '.join(sorted(self))}"
        )

    def __getitem__(self, name: str) -> Entry:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return any(_fold(known) == _fold(name) for known in self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _fold(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


activations = Registry("activation")
for _name, _class in {
    "celu": "CELU",
    "elu": "ELU",
    "gelu": "GELU",
    "hardswish": "Hardswish",
    "identity": "Identity",
    "leaky_relu": "LeakyReLU",
    "mish": "Mish",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "softplus": "Softplus",
    "tanh": "Tanh",
}.items():
    activations.register(_name, f"torch.nn:{_class}")

# options: the settings besides `lr` that the optimizer's constructor takes under the same name
optimizers = Registry("optimizer")
optimizers.register("adagrad", "torch.optim:Adagrad", ["weight_decay"])
optimizers.register("adam", "torch.optim:Adam", ["weight_decay"])
optimizers.register("adamw", "torch.optim:AdamW", ["weight_decay"])
optimizers.register("muon", "lab.training.muon:Muon", ["momentum", "nesterov", "weight_decay"])
optimizers.register("nadam", "torch.optim:NAdam", ["weight_decay"])
optimizers.register("radam", "torch.optim:RAdam", ["weight_decay"])
optimizers.register("rmsprop", "torch.optim:RMSprop", ["momentum", "weight_decay"])
optimizers.register("sgd", "torch.optim:SGD", ["momentum", "nesterov", "weight_decay"])

# options: the settings the schedule depends on
schedulers = Registry("scheduler")
schedulers.register("constant", "lab.training.schedulers:constant")
schedulers.register("cosine", "lab.training.schedulers:cosine")
schedulers.register("exponential", "lab.training.schedulers:exponential", ["gamma"])
schedulers.register("one_cycle", "lab.training.schedulers:one_cycle")
schedulers.register(
    "plateau", "lab.training.schedulers:plateau", ["gamma", "scheduler_monitor", "scheduler_patience"]
)
schedulers.register("step", "lab.training.schedulers:step", ["gamma", "step_size"])

# options: the settings the loss takes besides the class frequencies
losses = Registry("loss")
losses.register("balanced_cross_entropy", "lab.training.losses:balanced_cross_entropy", ["label_smoothing"])
losses.register("cross_entropy", "lab.training.losses:cross_entropy", ["label_smoothing"])
losses.register("mse", "lab.training.losses:mse", ["label_smoothing"])

# options: the settings the augmentation takes
augmentations = Registry("augmentation")
augmentations.register("cutout", "lab.data.augment:cutout", ["cutout_size"])
augmentations.register("horizontal_flip", "lab.data.augment:horizontal_flip")
augmentations.register("random_crop", "lab.data.augment:random_crop", ["crop_padding"])
augmentations.register("rotation", "lab.data.augment:rotation", ["rotation_degrees"])
augmentations.register("translation", "lab.data.augment:translation", ["translation_fraction"])

datasets = Registry("dataset")
datasets.register("cifar10", "lab.data.torchvision:CIFAR10")
datasets.register("cifar100", "lab.data.torchvision:CIFAR100")
datasets.register("digits", "lab.data.digits:DIGITS")
datasets.register("fashion_mnist", "lab.data.torchvision:FASHION_MNIST")
datasets.register(
    "image_folder",
    "lab.data.image_folder:IMAGE_FOLDER",
    ["background", "data_digest", "data_dir", "full_scale", "image_size", "skip_unreadable"],
)
datasets.register("mnist", "lab.data.torchvision:MNIST")
datasets.register("svhn", "lab.data.torchvision:SVHN")
datasets.register("synthetic", "lab.data.synthetic:SYNTHETIC", ["image_size"])

# options: the settings that shape the architecture; those of other architectures are dropped
_DENSE = ["head", "dense", "dense_norm", "dense_activation", "dropout"]
_CONV = [
    *("depth", "width", "filters", "kernel_size", "padding", "stride", "pool", "pool_type", "norm"),
    *("activation", "conv_dropout", "conv_bias", "block", "block_depth", "expansion"),
]
architectures = Registry("architecture")
architectures.register("cnn", "lab.models.cnn:build", [*_CONV, *_DENSE])
for _name in ("resnet18", "resnet34", "resnet50", "resnet101"):
    architectures.register(_name, f"lab.models.torchvision_nets:{_name}", ["stem"])
architectures.register("vgg19", "lab.models.torchvision_nets:vgg19", _DENSE)

_REGISTRIES = (activations, architectures, augmentations, datasets, losses, optimizers, schedulers)
_OWN = {(registry.kind, name) for registry in _REGISTRIES for name in registry}


def added() -> list[Addition]:
    """Return what was registered in addition to lab's own names; what the main script defines, as an object."""
    found = []
    for registry in _REGISTRIES:
        for name in registry:
            if (registry.kind, name) not in _OWN:
                entry = registry[name]
                of_script = isinstance(entry.target, str) and entry.target.startswith("__main__:")
                target = entry.load() if of_script else entry.target
                found.append(Addition(registry.kind, name, target, entry.options))
    return found


def add(additions: Iterable[Addition]) -> None:
    """Register the `additions` of another process, except for names already known here."""
    registries = {registry.kind: registry for registry in _REGISTRIES}
    for one in additions:
        if one.name not in registries[one.kind]:
            registries[one.kind].register(one.name, one.target, one.options)
