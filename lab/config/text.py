"""Settings from text: CLI options, MLproject parameters, environment variables, MLflow params."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from lab.config.grid import FILE_KEYS, GridFile
from lab.config.kinds import field_kinds, suggest_field, takes_text
from lab.config.own import is_setting, look_up_paths
from lab.config.trial import check_value
from lab.config.yaml import scalar
from lab.errors import ConfigError, Fault
from lab.registry import nearest, suggest

__all__ = ["UNSET", "is_settable", "parse_overrides", "parse_value", "parse_values"]


class _Unset(enum.Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: The meaning of empty text: keep the default.
UNSET: Final[Literal[_Unset.UNSET]] = _Unset.UNSET

_BOOLS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}

_PATHS: Final = frozenset({"use"})  # lists of paths, which may contain blanks: only commas separate them


def parse_value(name: str, text: str) -> Any:
    """Return the value of the setting `name` that `text` means, for `TrialConfig(**{name: value})`.

    `'leaky relu'` loses its shell quotes, `1e-3` becomes a number, `6,16` (or `[6, 16]`, `6 16`) a tuple,
    `none` None or an empty tuple, empty text `UNSET`. Text that the setting does not take stays text, which
    `TrialConfig` refuses.

    Raises:
        ConfigError: no such setting; suggests the most similar one.
    """
    kinds = field_kinds(name)
    if not kinds:
        raise ConfigError(Fault(f"unknown setting.{suggest_field(name)}", name))
    text = _unquoted(text)
    if not text:
        return UNSET
    if text.lower() in ("none", "null"):
        return None if type(None) in kinds else () if kinds == {tuple} else text
    if bool in kinds:
        return _BOOLS.get(text.lower(), text)
    if tuple in kinds:
        item = str if takes_text(name) else _number  # the class `001` is not a number
        separator = "," if name in _PATHS else None
        return _items(text, item, one_is_scalar=not kinds <= {tuple, type(None)}, separator=separator)
    number = _number(text)
    return text if str in kinds and not (int in kinds and type(number) is int) else number


def parse_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that several texts mean, by name, without those that are empty.

    Raises:
        ConfigError: every unknown name (with the most similar one) and every value that its setting does not take.
    """
    look_up_paths(texts)
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in texts.items():
        try:
            value = parse_value(name, text)
            if value is not UNSET:
                values[name] = check_value(name, value)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return values


def parse_overrides(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the overrides that `--set` gives to `load_grid`: settings, and some keys of the file itself.

    Raises:
        ConfigError: everything that is wrong: unknown names, values that a setting does not take, keys of the file
            that hold more than one value.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, text in texts.items():
        try:
            values |= _override(key, text)
        except ConfigError as error:
            faults += [Fault(fault.message, f"--set {key}") for fault in error.faults]
    if faults:
        raise ConfigError(faults)
    return values


def is_settable(key: str) -> bool:
    """Return whether `--set` takes `key`."""
    return is_setting(key) or key in FILE_KEYS


def _override(key: str, text: str) -> dict[str, Any]:
    if is_setting(key):
        return parse_values({key: text})
    if key not in FILE_KEYS:
        raise ConfigError(_not_settable(key))
    text = _unquoted(text)
    if not text:
        return {}
    if key == "name":
        return {key: text}
    if text.lower() in ("none", "null"):
        return {key: None}
    if key == "gpu_memory":
        return {key: text}
    value = _items(text, _number, one_is_scalar=True)
    return {key: list(value) if isinstance(value, tuple) else value}


def _not_settable(key: str) -> str:
    part, _, inner = key.partition(".")
    if part == "base":
        return f"settings of the base are set by their own names; write --set {inner or 'lr'}=…"
    taken = f" The keys that --set takes are {', '.join(FILE_KEYS)}"
    within = [known.partition(".")[2] for known in FILE_KEYS if known.startswith(f"{part}.")]
    if inner and within:
        near = nearest(inner, within)
        hint = f" Did you mean '{part}.{near}'?" if near else taken
        return f"unknown key.{hint}"
    if part in GridFile.model_fields:
        return f"is not a single value; change it in the file.{taken}"
    return f"unknown setting.{suggest(key, FILE_KEYS) or suggest_field(key)}"


def _unquoted(text: str) -> str:
    """Return `text` without surrounding blanks and up to two layers of quotes: `mlflow run` adds one."""
    text = text.strip()
    for _ in range(2):
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1].strip()
    return text


def _items(
    text: str, item: Callable[[str], Any], *, one_is_scalar: bool, separator: str | None = None
) -> Any:
    """Return the items of a list: between commas if there are any, else between blanks, or by `separator` if given."""
    bracketed = text[0] + text[-1] in ("[]", "()")
    inner = text[1:-1].strip() if bracketed else text
    listed = bracketed or "," in inner
    parts = inner.rstrip(",").split(",") if "," in inner else inner.split(separator)
    values = tuple(item(_unquoted(part)) for part in parts)
    return values[0] if one_is_scalar and not listed and len(values) == 1 else values


def _number(text: str) -> Any:
    try:
        return scalar(text)
    except ValueError:  # more digits than Python reads: not a value of any setting
        return text
