"""The settings of plug-ins: the hyperparameters of what users have registered, checked as lab's own are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from lab import plugins, registry
from lab.config.settings import Settings
from lab.errors import ConfigError
from lab.plugins.parameters import is_plain

__all__ = [
    "NAMING",
    "RESERVED",
    "as_json",
    "checked",
    "default_for",
    "field_of",
    "is_setting",
    "look_up_paths",
    "names_in",
    "own_fields",
    "schema_of",
    "setting_default",
    "setting_names",
    "takers_of",
    "unfit",
    "used_by",
]

registry.look_further(plugins.look)

#: The registry in which each setting's name or names are looked up.
NAMING: Final[Mapping[str, registry.Registry]] = {
    "dataset": registry.datasets,
    "augment": registry.augmentations,
    "architecture": registry.architectures,
    "activation": registry.activations,
    "dense_activation": registry.activations,
    "optimizer": registry.optimizers,
    "scheduler": registry.schedulers,
    "loss": registry.losses,
    "metrics": registry.metrics,
}

#: What else is given by name: the options of the commands that have one for every setting, and the keys of a grid file
#: that `--set` takes. No setting of a plug-in can have one of these names.
RESERVED: Final = frozenset(
    {
        *("config", "download", "experiment", "file", "from", "help", "highest", "lowest", "name", "resume"),
        *("server", "steps", "storage", "to", "tracking_uri"),
        *("gpu_memory", "max_failures", "max_retries", "priority", "repeats"),
    }
)


def own_fields() -> Mapping[str, FieldInfo]:
    """Return the settings of all plug-ins that are loaded, by name.

    Raises:
        ConfigError: one has a name that lab itself uses, or two differ in what they call by the same name.
    """
    return _own_fields(registry.version())


def field_of(name: str) -> FieldInfo | None:
    """Return a setting, lab's or a plug-in's, also of one that is installed; None for an unknown name."""
    known = Settings.model_fields.get(name) or own_fields().get(name)
    return own_fields().get(name) if known is None and plugins.use_installed() else known


def is_setting(name: str) -> bool:
    """Return whether there is a setting of this name."""
    return field_of(name) is not None


def setting_names() -> list[str]:
    """Return the names of all settings, those of plug-ins last."""
    return [*Settings.model_fields, *own_fields()]


def setting_default(name: str) -> Any:
    """Return the default of a setting, unresolved; None for a plug-in's that must be given."""
    field = field_of(name)
    return None if field is None or field.is_required() else field.default


def takers_of(name: str) -> str:
    """Return what takes a plug-in's setting, in words: `architecture 'mlp'`."""
    return ", ".join(f"{known.kind} '{entry.name}'" for known, entry in registry.parameters().get(name, []))


def used_by(setting: Callable[[str], Any]) -> list[registry.Entry]:
    """Return the entries of all kinds that a trial uses whose settings `setting` returns by name."""
    return [known[name] for where, known in NAMING.items() for name in names_in(setting(where))]


def names_in(value: Any) -> tuple[str, ...]:
    """Return the names that the value of a setting in `NAMING` has: one, several or none."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


def look_up_paths(values: Mapping[str, Any]) -> None:
    """Register what the settings among `values` name by path, so that its own settings are known.

    Whatever is wrong with a path is left for the checking of its setting to say.
    """
    for name, known in NAMING.items():
        value = values.get(name)
        for path in (
            value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        ):
            if isinstance(path, str) and ":" in path:
                with suppress(ConfigError):
                    known.canonical(path.strip())


def default_for(name: str, used: Sequence[registry.Entry]) -> Any:
    """Return the default of a plug-in's setting for a trial that uses these entries; `...` if it must be given."""
    defaults = [entry.parameters[name].default for entry in used if name in entry.parameters]
    return defaults[0] if defaults and all(each == defaults[0] for each in defaults) else ...


def checked(name: str, value: Any) -> Any:
    """Return the value of a plug-in's setting as one of those that take it accepts it; see `unfit`.

    Raises:
        pydantic.ValidationError: none of them does; says what is wrong for the first.
    """
    faults = []
    for adapter in _adapters(name, registry.version()).values():
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            faults.append(error)
    raise faults[0]


def unfit(name: str, value: Any, used: Sequence[registry.Entry]) -> str:
    """Return why a trial that uses these entries cannot have the value, whose type is right; empty if it can."""
    for entry in used:
        if name in entry.parameters:
            try:
                _adapters(name, registry.version())[entry.name].validate_python(value)
            except ValidationError as error:
                rule = error.errors()[0]["msg"].replace("Input should be", "must be")
                return f"{rule} for '{entry.name}', but got {value!r}"
    return ""


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON schema of a plug-in's setting: whatever one of those that take it accepts."""
    schemas = [adapter.json_schema() for adapter in _adapters(name, registry.version()).values()]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def as_json(name: str, value: Any) -> Any:
    """Return the value of a plug-in's setting as JSON has it."""
    return next(iter(_adapters(name, registry.version()).values())).dump_python(value, mode="json")


@functools.lru_cache(maxsize=1)
def _own_fields(_version: int) -> Mapping[str, FieldInfo]:
    return {name: _field(name, entries) for name, entries in registry.parameters().items()}


@functools.lru_cache(maxsize=256)
def _adapters(name: str, _version: int) -> Mapping[str, TypeAdapter[Any]]:
    """Return what checks the values of a plug-in's setting, by the name of what takes it; their ranges may differ."""
    return {
        entry.name: TypeAdapter(entry.parameters[name].annotation, config=ConfigDict(strict=True))
        for _, entry in registry.parameters()[name]
    }


def _field(name: str, entries: list[tuple[registry.Registry, registry.Entry]]) -> FieldInfo:
    parameters = [entry.parameters[name] for _, entry in entries]
    if len({_type_of(parameter.annotation) for parameter in parameters}) > 1:
        raise ConfigError(f"{takers_of(name)} mean different things by {name}; rename it in one of them")
    if name in Settings.model_fields:
        meaning = " ".join((Settings.model_fields[name].description or "").split())
        raise ConfigError(
            f"{takers_of(name)} has a parameter {name}, but lab has a setting of that name: {meaning} Rename the "
            f"parameter, or take lab's setting with options=['{name}']"
        )
    if name in RESERVED:
        raise ConfigError(
            f"{takers_of(name)} has a parameter {name}, which lab's commands take for something else; rename it"
        )
    if any(isinstance(parameter.default, FieldInfo) for parameter in parameters):
        raise ConfigError(
            f"{takers_of(name)}: the default of {name} must be a value; what `Field` says of it belongs to its type, "
            f"as in `{name}: Annotated[float, Field(gt=0)] = 0.1`"
        )
    parameter = parameters[0]  # default and range are each entry's own: see `default_for` and `unfit`
    try:
        if parameter.default is ...:
            field = FieldInfo.from_annotation(parameter.annotation)
        else:
            field = FieldInfo.from_annotated_attribute(parameter.annotation, parameter.default)
    except (PydanticUserError, TypeError) as error:
        raise ConfigError(f"{takers_of(name)}: the type of {name} cannot be used: {error}") from None
    if not is_plain(field.annotation):
        raise ConfigError(
            f"{takers_of(name)}: {name} must be of int, float, bool, str, Literal, tuple or None, which a grid file "
            f"and a command line can give, but is {parameter.annotation}"
        )
    return field


def _type_of(annotation: Any) -> str:
    """Return a type without its constraints, as text."""
    return str(get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation)
