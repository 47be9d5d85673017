"""The names a configuration can use, one small `Registry` per kind.

An entry refers to its implementation as `"module:attribute"`, so that `lab check` and `--help` can look up names
without importing torch. A plug-in registers the object itself, with the parameters of its own that become settings.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import ConfigError

__all__ = [
    "Addition",
    "Entry",
    "Parameter",
    "Registry",
    "activations",
    "add",
    "added",
    "architectures",
    "augmentations",
    "datasets",
    "forget",
    "look_further",
    "losses",
    "nearest",
    "optimizers",
    "parameters",
    "registry_of",
    "schedulers",
    "suggest",
    "version",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'gelu'?"` for the known name most similar to `name`, or an empty string."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near else ""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of a plug-in's own: a setting for the trials that use the plug-in.

    Attributes:
        annotation: its type, possibly `Annotated` with pydantic's constraints.
        default: `...` if it must be given.
    """

    annotation: Any
    default: Any = ...


@dataclass(frozen=True)
class Entry:
    """A registered implementation and what it takes.

    Attributes:
        name: as registered.
        target: the object, or where it is, as `"module:attribute"`.
        options: the settings of lab that it takes besides those that all of its kind take.
        parameters: the settings of its own.
        module: of the plug-in that it is from; empty for lab's own, and for what a program has registered by itself.
        plain: whether it takes plain arguments where lab's own take the config (architectures and schedulers).
    """

    name: str
    target: Any
    options: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    module: str = ""
    plain: bool = False

    def load(self) -> Any:
        """Return the implementation; one registered as `"module:attribute"` is imported."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def arguments(self, config: Any) -> dict[str, Any]:
        """Return the values that a config has for its options and parameters."""
        return {name: getattr(config, name) for name in (*self.options, *self.parameters)}


@dataclass(frozen=True)
class Addition:
    """A name that a program has registered in addition to lab's own, and its kind."""

    kind: str
    entry: Entry


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
        self.add(Entry(name, target, tuple(options)))

    def add(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ValueError: its name is taken.
        """
        taken = self._find(entry.name)
        if taken is not None:
            by = f" by {self._entries[taken].module}" if self._entries[taken].module else ""
            raise ValueError(f"{self.kind} '{entry.name}' is already registered{by}")
        self._entries[entry.name] = entry
        _changed()

    def remove(self, name: str) -> None:
        """Remove a name."""
        del self._entries[name]
        _changed()

    def canonical(self, name: str) -> str:
        """Return the registered spelling of `name`.

        Raises:
            ConfigError: no such name; suggests the most similar one and lists all.
        """
        known = self._find(name)
        if known is None and any(look(self, name) for look in _FURTHER):
            known = self._find(name)
        if known is not None:
            return known
        raise ConfigError(
            f"Unknown {self.kind} '{name}'.{suggest(name, self._entries)} Known: {', '.join(sorted(self))}"
        )

    def __getitem__(self, name: str) -> Entry:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, name: str) -> str | None:
        """Return the registered spelling of `name`; a path, `module:attribute`, is spelt as it is."""
        if ":" in name:
            return name if name in self._entries else None
        return next((known for known in self._entries if _fold(known) == _fold(name)), None)


def _fold(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


#: Where unknown names are looked for: each takes the registry and the name, and returns whether it has added any.
_FURTHER: list[Callable[[Registry, str], bool]] = []
_version = 0


def look_further(look: Callable[[Registry, str], bool]) -> None:
    """Look for names that no registry knows with `look`, which returns whether it has added any."""
    _FURTHER.append(look)


def version() -> int:
    """Return a number that changes with every name that is added or removed."""
    return _version


def _changed() -> None:
    global _version
    _version += 1


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
losses.register("mse", "lab.training.losses:mse")

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


def registry_of(kind: str) -> Registry:
    """Return the registry of a kind, such as `loss`."""
    return next(registry for registry in _REGISTRIES if registry.kind == kind)


def parameters() -> dict[str, list[tuple[Registry, Entry]]]:
    """Return the entries that have parameters of their own, by the parameter's name."""
    found: dict[str, list[tuple[Registry, Entry]]] = {}
    for registry in _REGISTRIES:
        for name in registry:
            for parameter in registry[name].parameters:
                found.setdefault(parameter, []).append((registry, registry[name]))
    return found


def forget(module: str) -> None:
    """Remove the names that a plug-in's module has added."""
    for registry in _REGISTRIES:
        for name in [name for name in registry if registry[name].module == module]:
            registry.remove(name)


def added() -> list[Addition]:
    """Return what a program has registered by itself; what its main script defines, as an object."""
    found = []
    for registry in _REGISTRIES:
        for name in registry:
            entry = registry[name]
            if (registry.kind, name) in _OWN or entry.module:
                continue
            if isinstance(entry.target, str) and entry.target.startswith("__main__:"):
                entry = replace(entry, target=entry.load())
            found.append(Addition(registry.kind, entry))
    return found


def add(additions: Iterable[Addition]) -> None:
    """Register the `additions` of another process, except for names already known here."""
    for one in additions:
        registry = registry_of(one.kind)
        if one.entry.name not in registry:
            registry.add(one.entry)
