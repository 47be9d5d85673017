"""`TrialConfig`: the complete, frozen settings of one trial, under one flat name each.

The same names serve as YAML keys, CLI flags, MLproject, Optuna and MLflow parameters.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lab import registry
from lab.config.presets import PRESETS
from lab.errors import ConfigError, Fault

__all__ = ["METRICS", "TrialConfig", "as_text", "check_value", "field_kinds", "parse_config"]

# The upper ends are beyond any use: they refuse what would fill the memory or overflow before a model is counted.
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Padding = Annotated[int, Field(ge=0, le=1024)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Widths = Annotated[tuple[Width, ...], Field(max_length=1000)]
Block = Literal["conv", "residual", "preact", "inverted_residual"]
Probability = Annotated[float, Field(ge=0, lt=1)]

#: What an epoch logs and `monitor` can watch.
METRICS: Final = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "epoch_test_loss",
    "epoch_test_accuracy",
)

# Where and how fast a trial runs is not what it is, and a preset's values stand in their own fields:
# these never change a cell's identity.
_NOT_IDENTITY: Final = frozenset({"checkpoint_every_n_steps", "device", "preset", "threads"})

_ORIGIN: Final = re.compile(r"(runs:/)?[0-9a-f]{32}|models:/[^/@]+(/\d+|@[\w-]+)|best:[a-z0-9_-]+")

_ALONE: Final = "alone"  # the validation context in which a field is checked without the others

_REGISTRIES: Final[Mapping[str, registry.Registry]] = {
    "dataset": registry.datasets,
    "architecture": registry.architectures,
    "activation": registry.activations,
    "dense_activation": registry.activations,
    "optimizer": registry.optimizers,
    "scheduler": registry.schedulers,
    "loss": registry.losses,
}

_MODEL_OPTIONS: Final = tuple(
    dict.fromkeys(
        option for name in registry.architectures for option in registry.architectures[name].options
    )
)

# An option takes this value where its optimizer, scheduler or loss uses it, and is None where nothing does.
_OPTION_DEFAULTS: Final[Mapping[str, Any]] = {
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "step_size": 10,
    "scheduler_patience": 5,
    "label_smoothing": 0.0,
    "skip_unreadable": None,
    "data_digest": None,  # only looking at the files tells
    "full_scale": None,  # likewise
    "crop_padding": None,  # depends on the image
    "rotation_degrees": 15.0,
    "translation_fraction": 0.1,
    "cutout_size": 0.25,
}
_GAMMA: Final[Mapping[str, float]] = {"exponential": 0.95, "step": 0.1, "plateau": 0.1}


class TrialConfig(BaseModel):
    """The complete settings of one trial. Constructing one checks and resolves it.

    Shorthands become per-layer values, a preset's values fill what is not given, and options that the
    chosen optimizer, scheduler or loss does not use become None, so that equal trials compare equal.

    Raises:
        pydantic.ValidationError: a value has the wrong type or is out of range.
        ConfigError: values that contradict each other. `parse_config` raises only this one.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    # data
    dataset: str = "digits"
    """Dataset to train on."""
    data_dir: str | None = None
    """Folder that holds the dataset (default: ./data, or $LAB_DATA_DIR)."""
    data_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{16}$")] | None = None
    """Digest of the files of image_folder, filled in by lab: a trial with it is trained on no others."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width in pixels that image_folder resizes to (default: the images' own, where they are all squares of
    one size) and synthetic generates (default 32)."""
    skip_unreadable: bool | None = None
    """Leave out files of image_folder that cannot be read as images; else each is an error (default false)."""
    background: Literal["white", "black", "gray"] = "white"
    """What is seen where an image of image_folder is transparent: white, black or gray."""
    full_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """White in images of image_folder of more than 8 bits, e.g. 4095 for 12 (default: what the files tell)."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Stratified share of the training images held out for validation; 0 for none."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Stratified share held out for testing where the dataset brings no test split."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the splits; kept apart from `seed` so that repeats share them."""
    classes: tuple[str, ...] = ()
    """Classes to keep, by name, in the order of their new labels, e.g. 0,9 (default: all)."""
    train_samples: Positive | None = None
    """Size of a class-balanced sample of the training images, drawn by `split_seed` (default: all of them)."""
    input_scale: Literal["standard", "unit", "raw"] = "standard"
    """Pixels as the model sees them: standard (mean 0, deviation 1 per channel), unit (0 to 1), raw (0 to 255)."""
    augment: tuple[str, ...] = ()
    """Augmentations of the training images, in order, e.g. random_crop,horizontal_flip."""
    crop_padding: Pixels | None = None
    """Pixels that random_crop shifts by at most (default: 4, and an eighth of images under 32 pixels)."""
    rotation_degrees: Annotated[float, Field(gt=0, le=180)] | None = None
    """Degrees that rotation turns by at most, either way (default 15)."""
    translation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of a side that translation shifts by at most (default 0.1)."""
    cutout_size: Annotated[float, Field(gt=0, le=1)] | None = None
    """Side of the square that cutout blackens, as a share of the image's (default 0.25)."""

    # model
    preset: str | None = None
    """Named bundle of values beneath your own, e.g. lenet; `Presets` below lists them."""
    architecture: str = "cnn"
    """What builds the model."""
    stem: Literal["auto", "imagenet", "small"] = "auto"
    """First layers of a ResNet: imagenet (7x7 stride 2, pooled), small (3x3 stride 1), auto (small below 64 pixels)."""
    depth: Layers | None = None
    """Number of conv layers, all `width` filters wide (shorthand for `filters`; default 2)."""
    width: Width | None = None
    """Filters of every conv layer (shorthand for `filters`; default 32)."""
    filters: Widths | None = None
    """Filters of each conv layer, e.g. 6,16."""
    kernel_size: Pixels | tuple[Pixels, ...] = 3
    """Kernel size, one for all conv layers or one each."""
    padding: Padding | tuple[Padding, ...] | None = None
    """Zero padding, one for all conv layers or one each (default: kernel_size // 2)."""
    stride: Pixels | tuple[Pixels, ...] = 1
    """Stride, one for all conv layers or one each."""
    block: Block | tuple[Block, ...] = "conv"
    """What a conv layer is: conv, residual, preact or inverted_residual; one for all or one each."""
    block_depth: Layers = 2
    """Convolutions within a residual or preact block."""
    expansion: Layers = 3
    """Times that an inverted_residual block widens its input."""
    conv_bias: bool = True
    """Whether convolutions have a bias."""
    pool: Pixels | tuple[Pixels, ...] = 2
    """Pooling after a conv layer: window and stride, one for all or one each; 1 is none."""
    pool_type: Literal["max", "avg"] = "max"
    """Kind of pooling."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation after every convolution, before its activation."""
    activation: str = "relu"
    """Activation after every conv layer."""
    conv_dropout: Probability = 0.0
    """Dropout (of whole channels) after every conv layer."""
    head: Literal["flatten", "global_avg_pool"] = "flatten"
    """How the dense part reads the last feature map."""
    dense: Widths = ()
    """Widths of the hidden dense layers, e.g. 120,84; the layer that gives the classes comes after them."""
    dense_norm: Literal["none", "batch"] = "none"
    """Normalisation after every hidden dense layer, before its activation."""
    dense_activation: str | None = None
    """Activation after every hidden dense layer (default: the same as `activation`)."""
    dropout: Probability | tuple[Probability, ...] = 0.0
    """Dropout before each dense layer but the first (or before the only one); a list gives one each."""

    init: Literal["default", "kaiming", "xavier"] = "default"
    """Initial weights: PyTorch's own, Kaiming normal or Xavier uniform (both with zero biases)."""
    init_from: str | None = None
    """Trained weights to begin with: a run id, models:/NAME/VERSION, or best:STUDY; other classes get a new head."""
    freeze: Literal["none", "all_but_head"] | Positive = "none"
    """What is not trained: none, all_but_head, or the first n blocks (a convolution with its norm, a dense layer)."""

    # optimisation
    epochs: Positive = 20
    """Most epochs to train."""
    batch_size: Positive = 128
    """Images per step."""
    optimizer: str = "adam"
    """Optimizer."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.001
    """Learning rate (the peak for one_cycle)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of sgd and rmsprop (default 0)."""
    nesterov: bool | None = None
    """Nesterov momentum of sgd (default false)."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Weight decay: L2 penalty, decoupled for adamw (default 0)."""
    scheduler: str = "constant"
    """Learning-rate schedule."""
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the learning rate: exponential (default 0.95), step and plateau (0.1)."""
    step_size: Positive | None = None
    """Epochs between the steps of `scheduler: step` (default 10)."""
    scheduler_patience: Annotated[int, Field(ge=0)] | None = None
    """Epochs without improvement before `scheduler: plateau` lowers the rate (default 5)."""
    scheduler_monitor: Literal[METRICS] | None = None  # type: ignore[valid-type]
    """Metric that `scheduler: plateau` watches (default: `monitor`)."""
    loss: str = "cross_entropy"
    """Training loss."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Label smoothing of the cross entropies (default 0)."""
    hard_mining_from: Positive | None = None
    """Epoch from which on the batches with the highest loss are fed once more after each epoch."""
    hard_mining_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of an epoch's batches that hard-batch mining feeds again (default 0.1)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic: fp32, or bf16 autocast where the device supports it."""

    # stopping
    patience: Positive | None = 5
    """Epochs without improvement of `monitor` before the trial stops early; none never stops."""
    monitor: Literal[METRICS] = "val_accuracy"  # type: ignore[valid-type]  # a tuple's names, known at run time
    """Metric that selects the best weights and that patience watches."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Whether `monitor` should rise or fall (auto: accuracy rises, loss falls)."""
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Change of `monitor` that counts as an improvement; it must be more than this."""
    eval_test_every_epoch: bool = False
    """Also log epoch_test_loss and epoch_test_accuracy, as the reports' plots do; `monitor` selects."""
    log_every_n_steps: Positive | None = None
    """Also log step_loss and step_accuracy, means over so many iterations, against the iteration."""
    checkpoint_every_n_steps: Positive | None = None
    """Also write a checkpoint after so many iterations within an epoch; for epochs that take long."""
    top_k: Positive = 5
    """The k of the top-k accuracy on the test split, logged where there are more classes."""

    # run
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of the data, augmentation and dropout."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads (default: all cores for `train`, 1 for each worker of a sweep). Part of exact repetition:
    sums are added up in another order under another count."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        bundle = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        return {name: _plain(name, value) for name, value in {**bundle, **values}.items()}

    @field_validator(*_REGISTRIES)
    @classmethod
    def _canonical_name(cls, name: str | None, info: Any) -> str | None:
        return None if name is None else _lookup(_REGISTRIES[info.field_name], name)

    @field_validator("augment")
    @classmethod
    def _canonical_augment(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_lookup(registry.augmentations, name) for name in names)

    @field_validator("classes")
    @classmethod
    def _one_spelling(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names as one system writes é: class folders are read so too."""
        return tuple(unicodedata.normalize("NFC", name) for name in names)

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise PydanticCustomError(
                "lab",
                "{message}",
                {
                    "message": f"Unknown preset '{name}'.{registry.suggest(name, PRESETS)}"
                    f" Known: {', '.join(sorted(PRESETS))}"
                },
            )
        return name

    @field_validator("init_from")
    @classmethod
    def _known_origin(cls, origin: str | None) -> str | None:
        if origin is not None and not _ORIGIN.fullmatch(origin):
            message = f"must be a run id, models:/NAME/VERSION or best:STUDY, but got {_show(origin)}"
            raise PydanticCustomError("lab", "{message}", {"message": message})
        return origin

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        if info.context == _ALONE:
            return self
        faults: list[Fault] = []
        resolved = {
            **_resolve_model(self, faults),
            **_resolve_options(self),
            **_resolve_stopping(self, faults),
        }
        if faults:
            raise ConfigError(faults)
        for name, value in resolved.items():
            object.__setattr__(self, name, value)  # frozen for everyone else
        return self

    @property
    def cell_hash(self) -> str:
        """The identity of this config: 16 hex digits, equal for equal trials on every machine.

        Only what differs from a default counts, so a later version's new field leaves old hashes alone;
        what only says how it is run (`device`, `threads`, `checkpoint_every_n_steps`) does not count. Nor does
        `data_dir`, unless it alone names the data: in an image_folder without a `data_digest`, as earlier versions
        had it.
        """
        skipped = set(_NOT_IDENTITY)
        if self.data_digest or not self.is_of_files:
            skipped.add("data_dir")
        default = _default().model_dump(mode="json")
        values = {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in skipped and value != default[name]
        }
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def is_of_files(self) -> bool:
        """Whether the data is whatever lies in `data_dir`, not a dataset that is known by its name."""
        return "data_dir" in registry.datasets[self.dataset].options

    def as_values(self) -> dict[str, Any]:
        """Return every resolved value that applies, as JSON and YAML hold them; `parse_config` reads them back."""
        return {name: value for name, value in self.model_dump(mode="json").items() if self._applies(name)}

    def as_params(self) -> dict[str, str]:
        """Return every resolved value that applies, as text for MLflow's params (`filters` as `6,16`).

        `parse_values` reads them back to the same config.
        """
        return {name: as_text(value) for name, value in self if self._applies(name)}

    def _applies(self, name: str) -> bool:
        """Return whether a field counts here and has a value, or is None by choice (`patience: none`)."""
        if name in _MODEL_OPTIONS and name not in registry.architectures[self.architecture].options:
            return False
        if name == "background" and not self.is_of_files:
            return False
        return getattr(self, name) is not None or type(self).model_fields[name].default is not None


def parse_config(values: Mapping[str, Any], *, key: str = "", file: str = "") -> TrialConfig:
    """Return the config of `values`, telling everything that is wrong with them in one `ConfigError`.

    Args:
        values: config values by field name, as Python or YAML give them.
        key: where the values stand in `file`, put before the field names in the error (`base`).
        file: the file they come from.

    Raises:
        ConfigError: unknown names (with the nearest known), wrong types, values out of range, contradictions.
    """
    try:
        return TrialConfig(**values)
    except ValidationError as error:
        faults = _faults(error)
    except ConfigError as error:
        faults = list(error.faults)
    raise ConfigError(
        [Fault(f.message, ".".join(part for part in (key, f.key) if part), file) for f in faults]
    )


def check_value(name: str, value: Any) -> Any:
    """Return the canonical form of one field's value (`ReLU` -> `relu`, `[6, 16]` -> `(6, 16)`), unresolved.

    Raises:
        ConfigError: no such field (with the nearest), or a value that it never takes.
    """
    try:
        return getattr(TrialConfig.model_validate({name: value}, context=_ALONE), name)
    except ValidationError as error:
        raise ConfigError(_faults(error)) from None


@functools.cache
def field_kinds(name: str) -> frozenset[type]:
    """Return which of int, float, bool, str, tuple, NoneType a field takes; nothing for an unknown field."""
    field = TrialConfig.model_fields.get(name)
    return frozenset() if field is None else frozenset(_kinds(field.annotation))


def _kinds(annotation: Any) -> set[type]:
    origin = get_origin(annotation)
    if origin is None:
        return {annotation}
    if origin is tuple:
        return {tuple}
    arms = get_args(annotation)
    if origin is Literal:
        return {type(arm) for arm in arms}
    if origin is Annotated:
        return _kinds(arms[0])
    return set().union(*(_kinds(arm) for arm in arms))


def as_text(value: Any) -> str:
    """Return a config value as its param text: `6,16`, `true`, `0.001`; `none` for None and for no items."""
    if isinstance(value, tuple):
        return ",".join(as_text(item) for item in value) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _faults(error: ValidationError) -> list[Fault]:
    found: dict[str, Fault] = {}  # one fault a key: each arm of a union reports its own
    for detail in error.errors():
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "extra_forbidden":
            message = f"unknown key.{registry.suggest(name, TrialConfig.model_fields)}"
        elif detail["type"] == "lab":
            message = detail["msg"]
        else:
            rule = detail["msg"].replace("Input should be", "must be")
            if detail["type"] == "literal_error" and int in field_kinds(name):
                rule += " or a number from 1"  # the other arm of its union
            message = f"{rule}, but got {_show(detail['input'])}"
        found.setdefault(name, Fault(message, name))
    return list(found.values())


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _resolve_model(config: TrialConfig, faults: list[Fault]) -> dict[str, Any]:
    """Return the model's fields as its architecture takes them; those it does not take get their defaults."""
    options = registry.architectures[config.architecture].options
    resolved = _resolve_layers(config, faults) if "filters" in options else {}
    if "dense" in options:
        resolved |= _resolve_dense(config, faults)
    unused = [name for name in _MODEL_OPTIONS if name not in options]
    return resolved | {name: TrialConfig.model_fields[name].default for name in unused}


def _resolve_layers(config: TrialConfig, faults: list[Fault]) -> dict[str, Any]:
    """Turn `depth` and `width` into `filters`, and check that every per-layer list has one value a layer."""
    filters = config.filters
    if filters is None:
        filters = (config.width or 32,) * (config.depth or 2)
    else:
        if config.depth not in (None, len(filters)):
            faults.append(
                Fault(
                    f"depth={config.depth} contradicts filters={as_text(filters)}; give one of them", "depth"
                )
            )
        if config.width is not None and set(filters) != {config.width}:
            faults.append(
                Fault(
                    f"width={config.width} contradicts filters={as_text(filters)}; give one of them", "width"
                )
            )
    depth = len(filters)
    if depth == 0:
        faults.append(Fault("must name at least one conv layer", "filters"))
    for name in ("kernel_size", "padding", "stride", "pool", "block"):
        _check_length(name, getattr(config, name), depth, "conv layer", faults)
    padding = config.padding
    if padding is None:
        kernels = config.kernel_size
        padding = kernels // 2 if isinstance(kernels, int) else tuple(kernel // 2 for kernel in kernels)
    return {
        "filters": filters,
        "depth": depth,
        "width": filters[0] if len(set(filters)) == 1 else None,
        "kernel_size": _collapse(config.kernel_size),
        "padding": _collapse(padding),
        "stride": _collapse(config.stride),
        "pool": _collapse(config.pool),
        "block": _collapse(config.block),
        **_unless(_uses(config, "residual", "preact"), "block_depth"),
        **_unless(_uses(config, "inverted_residual"), "expansion"),
    }


def _resolve_dense(config: TrialConfig, faults: list[Fault]) -> dict[str, Any]:
    _check_length("dropout", config.dropout, len(config.dense) + 1, "dense layer", faults)
    return {
        "dropout": _collapse_dropout(config.dropout, len(config.dense) + 1),
        "dense_activation": (config.dense_activation or config.activation) if config.dense else None,
    }


def _uses(config: TrialConfig, *blocks: str) -> bool:
    used = config.block if isinstance(config.block, tuple) else (config.block,)
    return not set(used).isdisjoint(blocks)


def _unless(used: bool, name: str) -> dict[str, Any]:
    """Return nothing for a field that is used, and its default for one that is not."""
    return {} if used else {name: TrialConfig.model_fields[name].default}


def _check_length(name: str, value: Any, expected: int, what: str, faults: list[Fault]) -> None:
    if isinstance(value, tuple) and len(value) != expected:
        faults.append(Fault(f"must have one value for each {what} ({expected}), but got {len(value)}", name))


def _resolve_options(config: TrialConfig) -> dict[str, Any]:
    used = {
        *registry.optimizers[config.optimizer].options,
        *registry.schedulers[config.scheduler].options,
        *registry.losses[config.loss].options,
        *registry.datasets[config.dataset].options,
        *(option for name in config.augment for option in registry.augmentations[name].options),
        *(("hard_mining_fraction",) if config.hard_mining_from else ()),
    }
    defaults = {
        **_OPTION_DEFAULTS,
        "gamma": _GAMMA.get(config.scheduler),
        "scheduler_monitor": config.monitor,
        "hard_mining_fraction": 0.1,
        # only looking at a folder's images tells theirs
        "image_size": None if "data_dir" in registry.datasets[config.dataset].options else 32,
    }
    resolved = {}
    for name, default in defaults.items():
        given = getattr(config, name)
        resolved[name] = None if name not in used else default if given is None else given
    resolved["skip_unreadable"] = (
        resolved["skip_unreadable"] or None
    )  # false is none: old cells keep their hash
    return resolved | _unless("background" in used, "background")


def _resolve_stopping(config: TrialConfig, faults: list[Fault]) -> dict[str, Any]:
    faults += _check_monitored(config, "monitor", config.monitor)
    if config.scheduler_monitor is not None:
        faults += _check_monitored(config, "scheduler_monitor", config.scheduler_monitor)
    if config.nesterov and not config.momentum:
        faults.append(Fault("nesterov needs momentum above 0", "nesterov"))
    rises = config.monitor.endswith("accuracy")
    return {"mode": ("max" if rises else "min") if config.mode == "auto" else config.mode}


def _check_monitored(config: TrialConfig, name: str, metric: str) -> list[Fault]:
    if metric.startswith("val_") and config.val_fraction == 0:
        message = "val_fraction=0 leaves nothing to measure it on; monitor train_accuracy instead"
        return [Fault(message, name)]
    if metric.startswith("epoch_test_") and not config.eval_test_every_epoch:
        return [Fault(f"{metric} is only known with eval_test_every_epoch: true", name)]
    return []


def _default() -> TrialConfig:
    global _DEFAULT
    if _DEFAULT is None:
        _DEFAULT = TrialConfig()
    return _DEFAULT


_DEFAULT: TrialConfig | None = None


def _lookup(names: registry.Registry, name: str) -> str:
    try:
        return names.canonical(name)
    except ConfigError as error:
        raise PydanticCustomError("lab", "{message}", {"message": str(error)}) from None


def _plain(name: str, value: Any) -> Any:
    """Return a list as a tuple, and the word `none` as what it means where it is no value of its own."""
    if isinstance(value, list | tuple):
        names = name == "classes"  # digits are names too
        return tuple(str(item) if names and type(item) is int else item for item in value)
    if isinstance(value, str) and value.strip().lower() in ("none", "null"):
        kinds = field_kinds(name)
        return None if type(None) in kinds else () if kinds == {tuple} else value
    return value


def _collapse(value: Any) -> Any:
    """Return the one value of a tuple that repeats it, so that `3` and `[3, 3]` are the same config."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _collapse_dropout(value: Any, layers: int) -> Any:
    """Return the one number that means the same as a list of dropouts: it spares the first of several."""
    if not isinstance(value, tuple) or len(value) != layers:
        return value
    spared, rest = (value[:1], value[1:]) if layers > 1 else ((0.0,), value)
    return rest[0] if spared == (0.0,) and len(set(rest)) == 1 else value
