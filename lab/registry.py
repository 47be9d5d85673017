"""The names a configuration can use, one `Registry` per kind. What registries are made of is in `entries`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lab.entries import Entry, Family, Parameter, Registry, look_further, nearest, suggest, version

__all__ = [
    "OWN_DATASET_OPTIONS",
    "Addition",
    "Entry",
    "Family",
    "Parameter",
    "Registry",
    "activations",
    "add",
    "added",
    "architectures",
    "augmentations",
    "datasets",
    "forget",
    "has_names_of",
    "look_further",
    "losses",
    "metrics",
    "nearest",
    "optimizers",
    "parameters",
    "registry_of",
    "schedulers",
    "suggest",
    "version",
]


@dataclass(frozen=True)
class Addition:
    """A name that a program has registered in addition to lab's own, and its kind."""

    kind: str
    entry: Entry


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
optimizers.register("lion", "lab.training.optimizers:lion", ["weight_decay"], extra="timm")
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
losses.register("focal", "lab.training.losses:focal", ["focal_gamma", "label_smoothing"])
losses.register("mse", "lab.training.losses:mse", ["label_smoothing"])

# options: the settings the metric takes besides the number of classes
metrics = Registry("metric")
for _name, _higher, _lowest in (
    ("auroc", True, 0.0),
    ("average_precision", True, 0.0),
    ("balanced_accuracy", True, 0.0),
    ("cohen_kappa", True, -1.0),
    ("ece", False, 0.0),
    ("f1", True, 0.0),
    ("jaccard", True, 0.0),
    ("matthews", True, -1.0),
    ("precision", True, 0.0),
    ("quadratic_kappa", True, -1.0),
    ("recall", True, 0.0),
    ("specificity", True, 0.0),
    ("top_k_accuracy", True, 0.0),
):
    metrics.register(
        _name,
        f"lab.training.scores:{_name}",
        ["top_k"] if _name == "top_k_accuracy" else [],
        higher_is_better=_higher,
        bounds=(_lowest, 1.0),
        extra="torchmetrics",
    )

# options: the settings the augmentation takes
augmentations = Registry("augmentation")
augmentations.register("cutmix", "lab.data.augment.mixing:cutmix", ["cutmix_alpha"])
augmentations.register("cutout", "lab.data.augment.erasing:cutout", ["cutout_size"])
augmentations.register("horizontal_flip", "lab.data.augment.shifts:horizontal_flip")
augmentations.register("mixup", "lab.data.augment.mixing:mixup", ["mixup_alpha"])
augmentations.register(
    "randaugment", "lab.data.augment.randaugment:randaugment", ["randaugment_ops", "randaugment_magnitude"]
)
augmentations.register("random_crop", "lab.data.augment.shifts:random_crop", ["crop_padding"])
augmentations.register("random_erasing", "lab.data.augment.erasing:random_erasing", ["erasing_probability"])
augmentations.register("random_resized_crop", "lab.data.augment.warps:random_resized_crop", ["crop_scale"])
augmentations.register("rotation", "lab.data.augment.warps:rotation", ["rotation_degrees"])
augmentations.register("translation", "lab.data.augment.shifts:translation", ["translation_fraction"])

datasets = Registry("dataset")
datasets.register("cifar10", "lab.data.torchvision:CIFAR10")
datasets.register("cifar100", "lab.data.torchvision:CIFAR100")
_OF_FILES = [
    *("background", "data_digest", "data_dir", "data_in_memory", "full_scale", "image_size", "resize"),
    "skip_unreadable",
]
#: What lab itself does with the images of users' data sets; their contents identify them.
OWN_DATASET_OPTIONS = ("background", "data_digest", "data_dir", "data_in_memory", "image_size", "resize")
_COLUMNS = ["group_column", "label_column", "split_column"]
datasets.register("digits", "lab.data.digits:DIGITS")
datasets.register("fashion_mnist", "lab.data.torchvision:FASHION_MNIST")
datasets.register(
    "image_csv", "lab.data.image_csv:IMAGE_CSV", [*_OF_FILES, "csv_file", "path_column", *_COLUMNS]
)
datasets.register("image_folder", "lab.data.image_folder:IMAGE_FOLDER", _OF_FILES)
datasets.register("hf", "lab.data.hugging_face:HF", [*_OF_FILES, "image_column", *_COLUMNS])
datasets.register("mnist", "lab.data.torchvision:MNIST")
datasets.register("parquet", "lab.data.hugging_face:PARQUET", [*_OF_FILES, "image_column", *_COLUMNS])
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
architectures.register_family(
    "timm",
    "lab.models.timm_nets:build",
    ["pretrained", "weights_digest"],
    library="lab.models.timm_nets:LIBRARY",
    extra="timm",
)
architectures.register_family(
    "torchvision",
    "lab.models.torchvision_family:build",
    ["weights", "weights_digest"],
    library="lab.models.torchvision_family:LIBRARY",
)

_REGISTRIES = (activations, architectures, augmentations, datasets, losses, metrics, optimizers, schedulers)
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


def has_names_of(module: str) -> bool:
    """Return whether a plug-in's module has added any names."""
    return any(registry[name].module == module for registry in _REGISTRIES for name in registry)


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
            if (registry.kind, name) in _OWN or entry.module or ":" in name:
                continue  # a plug-in's, or a path, which is looked up wherever it is named
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
