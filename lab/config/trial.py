"""`TrialConfig`: the complete, frozen settings of one trial, each under one flat name.

The same names serve as YAML keys, CLI options, MLproject parameters, and params of Optuna and MLflow.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from numbers import Integral
from typing import Any, Final, Self

from pydantic import (
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from lab import plugins, registry
from lab.config.kinds import as_text, doubtful, field_kinds, suggest_field, takes_text
from lab.config.own import (
    NAMING,
    as_json,
    checked,
    default_for,
    is_setting,
    look_up_paths,
    own_fields,
    used_by,
)
from lab.config.presets import PRESETS
from lab.config.resolving import FOLDER_OPTIONS, MODEL_OPTIONS, Contradictions, resolved
from lab.config.settings import Settings
from lab.config.yaml import composed
from lab.errors import ConfigError, Fault

__all__ = ["NOT_IDENTITY", "TrialConfig", "check_value", "contradictions", "parse_config"]

#: Settings that never change a cell's identity: where and how fast a trial runs, and the preset, whose values are
#: settings of their own; and which plug-ins are loaded, whose code has a digest.
NOT_IDENTITY: Final = frozenset(
    {"checkpoint_every_n_steps", "compile", "data_in_memory", "device", "preset", "threads", "use"}
)

_DEVICE: Final = re.compile(r"auto|(cpu|cuda|mps|xpu)(:\d+)?")
_ORIGIN: Final = re.compile(r"(runs:/)?[0-9a-f]{4,32}|models:/[^/@]+(/\d+|@[\w-]+)|best:[a-z0-9_-]+")

_ALONE: Final = "alone"  # the validation context in which a setting is checked without the others


class TrialConfig(Settings):
    """The complete settings of one trial, checked and resolved when constructed.

    Shorthands become per-layer values, a preset fills in what is not given, and options that the chosen optimizer,
    scheduler or loss does not use become None, so that equal trials compare equal. The settings of the plug-ins that
    the trial uses are attributes too; those of others are left out.

    Raises:
        pydantic.ValidationError: a value has the wrong type or is out of range.
        ConfigError: settings that contradict each other. `parse_config` raises only this one.
    """

    model_config = ConfigDict(extra="allow")  # settings of plug-ins, which `_with_own` checks

    @model_validator(mode="wrap")
    @classmethod
    def _with_own(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping):
            return handler(values)
        own, wrong = _checked_own(values)
        known = {name: value for name, value in values.items() if name in cls.model_fields}
        try:
            checked = handler({**known, **own})
        except ValidationError as error:
            wrong += [_again(detail) for detail in error.errors()]
        if wrong:  # without a plug-in, what it would define is unknown, and nothing more can be said
            missing = [detail for detail in wrong if detail["loc"] == ("use",)]
            raise ValidationError.from_exception_data(cls.__name__, missing or wrong)
        return checked

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset")
        bundle = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        return {name: _plain(name, value) for name, value in {**bundle, **values}.items()}

    @field_validator(*(setting for setting in NAMING if setting not in ("augment", "metrics")))
    @classmethod
    def _canonical_name(cls, name: str | None, info: Any) -> str | None:
        return None if name is None else _lookup(NAMING[info.field_name], name)

    @field_validator("augment")
    @classmethod
    def _canonical_augment(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_lookup(registry.augmentations, name) for name in names)

    @field_validator("use")
    @classmethod
    def _loaded_plugins(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        modules = tuple(map(plugins.module_name, names))
        missing = [
            name for name, module in zip(names, modules, strict=True) if module not in plugins.loaded()
        ]
        if missing:
            name = missing[0]
            message = f"the plug-in {name} is not loaded: give --use {name}, or call lab.use('{name}')"
            raise PydanticCustomError("lab", "{message}", {"message": message})
        return modules

    @field_validator("metrics")
    @classmethod
    def _canonical_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({_lookup(registry.metrics, name) for name in names}))  # no order: equal trials

    @field_validator("classes")
    @classmethod
    def _composed_classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(composed, names))

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

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):  # whether it is there is for the worker to say
            message = f"must be auto, cpu, cuda, mps, or one of several as in cuda:1, but got {_show(device)}"
            raise PydanticCustomError("lab", "{message}", {"message": message})
        return device

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        if info.context == _ALONE:
            return self
        found = Contradictions(self, info.context or frozenset())
        values = resolved(self, found)
        if found.faults:
            raise ConfigError(found.faults)
        own = {name: values.pop(name) for name in list(values) if name not in Settings.model_fields}
        for name, value in {**values, "__pydantic_extra__": own}.items():
            object.__setattr__(self, name, value)  # frozen for everyone else
        return self

    @property
    def cell_hash(self) -> str:
        """The identity of this config: 16 hex digits, equal for equal trials on every machine.

        Only values that differ from the default count, so that a setting added in a later version changes no hash.
        Settings that only affect how a trial is run (`device`, `threads`, `compile`, `data_in_memory`,
        `checkpoint_every_n_steps`) do not count. Nor do `data_dir` and `csv_file`, unless they alone identify the data:
        in an image_folder without a `data_digest`, as in earlier versions. A file of weights counts by its digest, too.
        """
        skipped = set(NOT_IDENTITY)
        if self.data_digest or not self.is_of_files:
            skipped |= {"data_dir", "csv_file"}
        if self.weights_digest:
            skipped |= {"pretrained", "weights"}
        defaults = {**_defaults(), **self._own_defaults()}
        values = {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in skipped and value != defaults[name]
        }
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def is_of_files(self) -> bool:
        """Whether the data is what `data_dir` contains, not a dataset known by its name."""
        return "data_dir" in registry.datasets[self.dataset].options

    def _own_defaults(self) -> dict[str, Any]:
        """Return the defaults of the plug-ins' settings that the trial uses, as JSON has them."""
        if not self.model_extra:
            return {}
        used = used_by(lambda name: getattr(self, name))
        found = {name: default_for(name, used) for name, _ in self.own_values()}
        return {
            name: default if default is ... else as_json(name, default) for name, default in found.items()
        }

    def own_values(self) -> tuple[tuple[str, Any], ...]:
        """Return the settings of plug-ins that the trial uses, by name and with their values."""
        return tuple(sorted((self.model_extra or {}).items()))

    def as_values(self) -> dict[str, Any]:
        """Return every resolved setting that applies, as JSON and YAML hold them; `parse_config` reads them back."""
        return {name: value for name, value in self.model_dump(mode="json").items() if self._applies(name)}

    def as_params(self) -> dict[str, str]:
        """Return every resolved setting that applies, as text for MLflow's params (`filters` as `6,16`).

        `parse_values` reads them back to the same config.
        """
        return {name: as_text(value) for name, value in self if self._applies(name)}

    def _applies(self, name: str) -> bool:
        """Return whether a setting applies here and has a value, or is None by choice (`patience: none`)."""
        if name not in Settings.model_fields:
            return True
        if name in MODEL_OPTIONS and name not in registry.architectures[self.architecture].options:
            return False
        if name in FOLDER_OPTIONS and name not in registry.datasets[self.dataset].options:
            return False
        if name == "val_fraction" and self.folds is not None:
            return False
        return getattr(self, name) is not None or type(self).model_fields[name].default is not None


def parse_config(values: Mapping[str, Any], *, key: str = "", file: str = "") -> TrialConfig:
    """Return the config of `values`; everything that is wrong with them is reported in one `ConfigError`.

    Args:
        values: settings by name, as Python or YAML give them.
        key: where the settings are in `file`, prefixed to their names in the error (`base`).
        file: the file they come from.

    Raises:
        ConfigError: unknown names (with the most similar one), wrong types, values out of range, contradictions.
    """
    try:
        return TrialConfig(**values)
    except ValidationError as error:
        faults = _faults(error)
        faults += contradictions(values, doubtful(fault.key for fault in faults))
    except ConfigError as error:
        faults = list(error.faults)
    raise ConfigError(
        [Fault(f.message, ".".join(part for part in (key, f.key) if part), file) for f in faults]
    )


def contradictions(values: Mapping[str, Any], doubted: frozenset[str] = frozenset()) -> list[Fault]:
    """Return how those of the `values` that are valid by themselves contradict each other.

    Args:
        values: settings by name; invalid ones are ignored.
        doubted: settings whose values are unknown, from `doubtful`; what depends on them is not reported.
    """
    known = {name: value for name, value in values.items() if name not in doubted}
    try:
        TrialConfig.model_validate(known, context=doubted)
    except ConfigError as error:
        return list(error.faults)
    except ValidationError as error:
        return contradictions(known, doubted | doubtful(fault.key for fault in _faults(error)))
    return []


def check_value(name: str, value: Any) -> Any:
    """Return the canonical form of one setting's value (`ReLU` -> `relu`, `[6, 16]` -> `(6, 16)`), unresolved.

    Raises:
        ConfigError: no such setting (with the most similar one), or a value that it never takes.
    """
    try:
        return getattr(TrialConfig.model_validate({name: value}, context=_ALONE), name)
    except ValidationError as error:
        raise ConfigError(_faults(error)) from None


def _faults(error: ValidationError) -> list[Fault]:
    found: dict[str, Fault] = {}  # one fault per key: each arm of a union reports its own
    for detail in error.errors():
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "extra_forbidden":
            message = f"unknown setting.{suggest_field(name)}"
        elif detail["type"] == "lab":
            message = detail["msg"]
        elif detail["type"] == "string_type" and takes_text(name):
            message = f"must be text, but got {_show(detail['input'])}; put it in quotes"
        elif detail["type"] == "tuple_type" and isinstance(detail["input"], str | int | float):
            message = (
                f"must be a list, as in [{as_text(detail['input'])[:80]}], but got {_show(detail['input'])}"
            )
        else:
            rule = detail["msg"].replace("Input should be", "must be")
            if detail["type"] == "literal_error" and int in field_kinds(name):
                rule += " or a number from 1"  # the other arm of its union
            message = f"{rule}, but got {_show(detail['input'])}"
        found.setdefault(name, Fault(message, name))
    return list(found.values())


def _checked_own(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[InitErrorDetails]]:
    """Return those of `values` that are settings of plug-ins, checked, and what is wrong with them and unknown."""
    look_up_paths(values)
    own_fields()  # raises if what is loaded contradicts itself
    own, wrong = {}, list[InitErrorDetails]()
    for name, value in values.items():
        if name in Settings.model_fields:
            continue
        if not is_setting(name):
            wrong.append(InitErrorDetails(type="extra_forbidden", loc=(name,), input=value))
            continue
        try:
            own[name] = checked(name, _plain(name, value))
        except ValidationError as error:
            wrong += [_again(detail, (name,)) for detail in error.errors()]
    return own, wrong


def _again(detail: Any, within: tuple[str, ...] = ()) -> InitErrorDetails:
    """Return an error of pydantic's in the form in which it can be raised once more."""
    kind = (
        PydanticCustomError("lab", "{message}", {"message": detail["msg"]})
        if detail["type"] == "lab"
        else detail["type"]
    )
    return InitErrorDetails(
        type=kind, loc=(*within, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {})
    )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


@functools.cache
def _defaults() -> dict[str, Any]:
    """Return every resolved setting of a trial that sets nothing."""
    return TrialConfig().model_dump(mode="json")


def _lookup(names: registry.Registry, name: str) -> str:
    try:
        return names.canonical(name)
    except ConfigError as error:
        raise PydanticCustomError("lab", "{message}", {"message": str(error)}) from None


def _plain(name: str, value: Any) -> Any:
    """Return a list as a tuple, -0.0 as 0.0, and the word `none` as None or (), unless it is a value of its own."""
    if value is None and field_kinds(name) == {tuple}:
        return ()
    if isinstance(value, list | tuple):
        names = name == "classes"  # digits are class names too
        return tuple(str(item) if names and _is_whole(item) else _unsigned(item) for item in value)
    if isinstance(value, str) and value.strip().lower() in ("none", "null"):
        kinds = field_kinds(name)
        return None if type(None) in kinds else () if kinds == {tuple} else value
    return _unsigned(value)


def _unsigned(value: Any) -> Any:
    """Return 0.0 for -0.0, which is equal to it, but another text in the hash of a cell."""
    return value + 0.0 if isinstance(value, float) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # numpy's too
