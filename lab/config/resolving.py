"""Settings in combination: how they contradict each other, and what unset ones resolve to."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from lab import plugins, registry
from lab.config.kinds import as_text
from lab.config.metrics import logged_name, monitorable, reserved, rises
from lab.config.own import NAMING, default_for, unfit, used_by
from lab.config.presets import PRESETS
from lab.config.settings import Settings
from lab.errors import Fault
from lab.registry import Entry

__all__ = ["FOLDER_OPTIONS", "MODEL_OPTIONS", "Contradictions", "resolved", "weights_file"]

MODEL_OPTIONS: Final = registry.architectures.options

# Options of datasets of files, with a default other than None if they do not apply.
FOLDER_OPTIONS: Final = ("background", "resize", "skip_unreadable")

# The default of an option if the optimizer, scheduler or loss uses it; otherwise it is None.
_OPTION_DEFAULTS: Final[Mapping[str, Any]] = {
    "weight_decay": 0.0,
    "step_size": 10,
    "scheduler_patience": 5,
    "data_digest": None,  # depends on the files
    "csv_file": None,
    "path_column": None,
    "image_column": None,
    "label_column": None,
    "split_column": None,
    "group_column": None,
    "data_in_memory": None,  # depends on the machine
    "full_scale": None,  # depends on the files
    "crop_padding": None,  # depends on the image
    "rotation_degrees": 15.0,
    "translation_fraction": 0.1,
    "cutout_size": 0.25,
    "erasing_probability": 0.5,
    "crop_scale": 0.08,
    "randaugment_ops": 2,
    "randaugment_magnitude": 9,
    "mixup_alpha": 1.0,
    "cutmix_alpha": 1.0,
    "focal_gamma": 2.0,
}
_MOMENTUM: Final[Mapping[str, float]] = {"muon": 0.95}
_NESTEROV: Final[Mapping[str, bool]] = {"muon": True}
_WEIGHTS_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")  # as torchvision names weights; a file's name has a dot

_GAMMA: Final[Mapping[str, float]] = {"exponential": 0.95, "step": 0.1, "plateau": 0.1}


class Contradictions:
    """Collects contradictions between settings, except those that involve a setting in doubt.

    Args:
        settings: in which they are; a preset's values may be among them, and nobody has given those.
        doubted: the settings in doubt.
    """

    def __init__(self, settings: Settings, doubted: Collection[str]) -> None:
        self.faults: list[Fault] = []
        self._preset, self._brought = settings.preset, _brought(settings)
        self._doubted = doubted

    def add(self, message: str, key: str, *others: str) -> None:
        """Note what is wrong with the setting `key` in combination with `others`."""
        if {"preset", key, *others}.isdisjoint(self._doubted):
            brought = [name for name in (key, *others) if name in self._brought]
            note = f" (the preset {self._preset} sets {' and '.join(brought)})" if brought else ""
            self.faults.append(Fault(message + note, key))


def _brought(settings: Settings) -> set[str]:
    """Return the settings whose values are those of the preset, if there is one."""
    bundle = PRESETS.get(settings.preset or "", {})
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in bundle.items()}
    return {name for name, value in plain.items() if getattr(settings, name) == value}


def resolved(settings: Settings, found: Contradictions) -> dict[str, Any]:
    """Return the settings that resolve to a value other than the given one; note contradictions in `found`."""
    values = {
        **_resolve_model(settings, found),
        **_resolve_weights(settings, found),
        **_resolve_options(settings),
        **_resolve_stopping(settings, found),
        **_resolve_folds(settings, found),
    }
    used = used_by(lambda name: values[name] if name in values else getattr(settings, name))
    return {**values, **_resolve_plugins(settings, used, found), **_resolve_own(settings, used, found)}


def _resolve_own(settings: Settings, used: list[Entry], found: Contradictions) -> dict[str, Any]:
    """Return the values of the plug-ins' settings that a trial uses: those given, or their defaults."""
    given, values = settings.model_extra or {}, {}
    for name in dict.fromkeys(name for entry in used for name in entry.parameters):
        values[name] = given[name] if name in given else default_for(name, used)
        if values[name] is ...:
            takers = [f"'{entry.name}'" for entry in used if name in entry.parameters]
            found.add(
                f"{' and '.join(takers)} {'needs' if len(takers) == 1 else 'need'} a value for {name}",
                name,
                *NAMING,
            )
        elif name in given and (why := unfit(name, given[name], used)):
            found.add(why, name, *NAMING)
    return values


def _resolve_plugins(config: Settings, used: list[Entry], found: Contradictions) -> dict[str, Any]:
    """Return the plug-ins that a trial uses, and the digest of their code."""
    modules = sorted({entry.module for entry in used if entry.module})
    digest = plugins.code_digest(modules, (entry.code for entry in used if entry.code))
    if config.code_digest not in (None, digest):
        here = f"that of {', '.join(modules) or 'the program'} is {digest}" if digest else "none is used"
        found.add(
            f"the code of this trial has the digest {config.code_digest}, but here {here}: it has changed since; "
            "restore it, or leave out code_digest to train with the current one",
            "code_digest",
            "use",
        )
    return {"use": tuple(modules), "code_digest": digest}


def weights_file(config: Settings) -> str | None:
    """Return the file of weights that training starts from, None if there is none or its library knows it by name."""
    if isinstance(config.pretrained, str):
        return config.pretrained
    return None if config.weights is None or _WEIGHTS_NAME.fullmatch(config.weights) else config.weights


def _resolve_weights(config: Settings, found: Contradictions) -> dict[str, Any]:
    """Return the settings of pretrained weights; note those that cannot be used."""
    entry = registry.architectures[config.architecture]
    resolved: dict[str, Any] = {"pretrained": config.pretrained or None}
    asked = [name for name in ("pretrained", "weights") if getattr(config, name)]
    for name in asked:
        if name not in entry.options:
            found.add(f"{config.architecture} has no setting {name}{_instead(entry)}", name, "architecture")
        if config.init_from is not None:
            message = f"contradicts init_from={config.init_from}: training starts from one of them"
            found.add(message, name, "init_from")
    usable = [name for name in asked if name in entry.options]
    if not usable or weights_file(config) is None:
        resolved["weights_digest"] = None
    if config.input_scale is None:
        resolved["input_scale"] = "weights" if usable else "standard"
    elif config.input_scale == "weights" and entry.library is None:
        message = f"{config.architecture} has no pretrained weights; weights needs a timm or torchvision net"
        found.add(message, "input_scale", "architecture")
    if config.freeze == "all_but_head":
        resolved["backbone_lr_factor"] = 1.0  # there is nothing for it to scale
    return resolved


def _instead(entry: registry.Entry) -> str:
    """Return what to do where an architecture does not take the setting for pretrained weights."""
    own = next((name for name in ("pretrained", "weights") if name in entry.options), None)
    if own is not None:
        return f"; use {own}: {'true' if own == 'pretrained' else 'DEFAULT'}, or a file"
    return ", because it has no pretrained weights; timm/NAME and torchvision/NAME have"


def _resolve_model(config: Settings, found: Contradictions) -> dict[str, Any]:
    """Return the model's settings as its architecture takes them; those it does not take get their defaults."""
    options = registry.architectures[config.architecture].options
    resolved = _resolve_layers(config, found) if "filters" in options else {}
    if "dense" in options:
        resolved |= _resolve_dense(config, found)
    unused = [name for name in registry.architectures.options if name not in options]
    return resolved | {name: Settings.model_fields[name].default for name in unused}


def _resolve_layers(config: Settings, found: Contradictions) -> dict[str, Any]:
    """Turn `depth` and `width` into `filters`, and check that every per-layer list has one value per layer."""
    filters = config.filters
    counted_by = ("architecture", "filters") if filters is not None else ("architecture", "filters", "depth")
    if filters is None:
        filters = (config.width or 32,) * (config.depth or 2)
    else:
        if config.depth not in (None, len(filters)):
            message = f"depth={config.depth} contradicts filters={as_text(filters)}; give one of them"
            found.add(message, "depth", *counted_by)
        if config.width is not None and set(filters) != {config.width}:
            message = f"width={config.width} contradicts filters={as_text(filters)}; give one of them"
            found.add(message, "width", *counted_by)
    depth = len(filters)
    if depth == 0:
        found.add("must name at least one conv layer", "filters", *counted_by)
    for name in ("kernel_size", "padding", "stride", "pool", "block"):
        _check_length(name, config, depth, "conv layer", found, *counted_by)
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


def _resolve_dense(config: Settings, found: Contradictions) -> dict[str, Any]:
    _check_length("dropout", config, len(config.dense) + 1, "dense layer", found, "dense", "architecture")
    return {
        "dropout": _collapse_dropout(config.dropout, len(config.dense) + 1),
        "dense_activation": (config.dense_activation or config.activation) if config.dense else None,
    }


def _uses(config: Settings, *blocks: str) -> bool:
    used = config.block if isinstance(config.block, tuple) else (config.block,)
    return not set(used).isdisjoint(blocks)


def _unless(used: bool, name: str) -> dict[str, Any]:
    """Return nothing for a setting that is used, and the default for one that is not."""
    return {} if used else {name: Settings.model_fields[name].default}


def _check_length(
    name: str, config: Settings, expected: int, what: str, found: Contradictions, *others: str
) -> None:
    value = getattr(config, name)
    if isinstance(value, tuple) and len(value) != expected:
        message = f"must have one value for each {what} ({expected}), but got {len(value)}"
        found.add(message, name, *others)


def _resolve_options(config: Settings) -> dict[str, Any]:
    used = {
        *registry.optimizers[config.optimizer].options,
        *registry.schedulers[config.scheduler].options,
        *registry.losses[config.loss].options,
        *registry.datasets[config.dataset].options,
        *(option for name in config.augment for option in registry.augmentations[name].options),
        *(option for name in config.metrics for option in registry.metrics[name].options),
        *(("hard_mining_fraction",) if config.hard_mining_from else ()),
    }
    defaults = {
        **_OPTION_DEFAULTS,
        "gamma": _GAMMA.get(config.scheduler),
        "momentum": _momentum(config),
        "nesterov": _NESTEROV.get(config.optimizer, False) and _momentum(config) > 0,
        "label_smoothing": 0.0,
        "scheduler_monitor": config.monitor,
        "hard_mining_fraction": 0.1,
        # depends on the images of a folder
        "image_size": None if "data_dir" in registry.datasets[config.dataset].options else 32,
    }
    resolved = {}
    for name, default in defaults.items():
        given = getattr(config, name)
        resolved[name] = None if name not in used else default if given is None else given
    if config.loss == "mse" and not config.label_smoothing:
        # as in earlier versions, where it took none: its cells are the same
        resolved["label_smoothing"] = None
    for name in FOLDER_OPTIONS:
        resolved |= _unless(name in used, name)
    return resolved


def _momentum(config: Settings) -> float:
    """Return the optimizer's momentum: the given one, or its default."""
    return _MOMENTUM.get(config.optimizer, 0.0) if config.momentum is None else config.momentum


def _resolve_folds(config: Settings, found: Contradictions) -> dict[str, Any]:
    """Return the default `val_fraction` where folds take its place."""
    folds, fold = config.folds, config.fold
    default = Settings.model_fields["val_fraction"].default
    if folds is None:
        if fold is not None:
            found.add(f"fold={fold} needs folds, the number of folds, e.g. folds: 5", "fold", "folds")
        return {}
    if fold is None:
        listed = list(range(folds)) if folds <= 10 else f"[0, 1, …, {folds - 1}]"
        message = (
            f"folds={folds} needs fold: one of 0 to {folds - 1}, or all of them in a grid: fold: {listed}"
        )
        found.add(message, "folds", "fold")
    elif fold >= folds:
        found.add(f"must be from 0 to {folds - 1} with folds={folds}, but got {fold}", "fold", "folds")
    if config.val_fraction != default:
        message = (
            f"val_fraction={config.val_fraction} contradicts folds={folds}: the fold is the validation split"
        )
        found.add(f"{message}; leave out one of them", "val_fraction", "folds")
    return {"val_fraction": default}


def _resolve_stopping(config: Settings, found: Contradictions) -> dict[str, Any]:
    _check_metrics(config, found)
    _check_monitored(config, "monitor", config.monitor, found)
    if config.scheduler_monitor is not None:
        _check_monitored(config, "scheduler_monitor", config.scheduler_monitor, found)
    if config.nesterov and not _momentum(config):
        found.add("nesterov needs momentum above 0", "nesterov", "momentum")
    if config.warmup_epochs >= config.epochs:
        message = f"must be less than epochs={config.epochs}, but got {config.warmup_epochs}"
        found.add(message, "warmup_epochs", "epochs")
    if config.mode != "auto":
        return {"mode": config.mode}
    higher = rises(config.monitor, config.metrics)
    if higher is None and config.monitor in monitorable(config.metrics):
        message = f"must be max or min, because {config.monitor} does not say whether higher is better"
        found.add(message, "mode", "monitor", "metrics")
    return {"mode": "min" if higher is False else "max"}


def _check_metrics(config: Settings, found: Contradictions) -> None:
    """Check that each metric is logged under a name of its own."""
    names = [logged_name(metric) for metric in config.metrics]
    for name in sorted(set(names)):
        if reserved(name):
            found.add(f"lab itself logs val_{name} or test_{name}; give your metric another name", "metrics")
        elif names.count(name) > 1:
            found.add(f"two metrics would be logged as val_{name}; give one another name", "metrics")


def _check_monitored(config: Settings, name: str, metric: str, found: Contradictions) -> None:
    if metric not in monitorable(config.metrics):
        found.add(_unknown(metric, config.metrics), name, "metrics")
    elif metric.startswith("val_") and config.val_fraction == 0 and config.folds is None:
        message = "val_fraction=0 leaves no validation images; monitor train_accuracy instead"
        found.add(message, name, "val_fraction")
    elif metric.startswith("epoch_test_") and not config.eval_test_every_epoch:
        message = f"{metric} is only computed with eval_test_every_epoch: true"
        found.add(message, name, "eval_test_every_epoch")
    elif name != "monitor" and metric != config.monitor and rises(metric, config.metrics) is None:
        message = (
            f"{metric} does not say whether higher is better, so only `monitor` can watch it, with a `mode`"
        )
        found.add(message, name, "monitor", "metrics")


def _unknown(metric: str, chosen: tuple[str, ...]) -> str:
    """Return what is wrong with a metric that no epoch logs."""
    missing = next((name for name in registry.metrics if metric in monitorable([name])), None)
    if missing is not None:
        return f"{metric} is only computed with metrics: [{', '.join(sorted([*chosen, missing]))}]"
    near = registry.suggest(metric.lower(), monitorable({*chosen, *registry.metrics}))
    known = ", ".join(monitorable(chosen))
    return f"unknown metric '{metric[:80]}'.{near} Known: {known}, and val_NAME of those in `metrics`"


def _collapse(value: Any) -> Any:
    """Return the single value of a tuple that repeats it, so that `3` and `[3, 3]` are the same config."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _collapse_dropout(value: Any, layers: int) -> Any:
    """Return the single number equivalent to a list of dropouts, which leaves out the first of several layers."""
    if not isinstance(value, tuple) or len(value) != layers:
        return value
    spared, rest = (value[:1], value[1:]) if layers > 1 else ((0.0,), value)
    return rest[0] if spared == (0.0,) and len(set(rest)) == 1 else value
