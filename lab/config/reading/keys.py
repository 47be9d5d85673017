"""The keys of a grid file, checked one by one, and the file's base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from lab.config.claims import ClaimEntry
from lab.config.foreign import recognised
from lab.config.grid import Budget, GridFile, ReportedEntry
from lab.config.own import is_setting
from lab.config.reading.document import Reading, brief
from lab.config.search import SearchFile
from lab.errors import ConfigError, Fault, printable
from lab.registry import suggest

__all__ = ["read_base", "read_keys", "read_name"]

_PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "budget": Budget,
    "claims": ClaimEntry,
    "reported": ReportedEntry,
    "search": SearchFile,
}


def read_keys(reading: Reading) -> GridFile:
    """Return what the file says. A wrong key is noted and left out, so that the others are checked.

    Raises:
        ConfigError: the file is not a mapping, or belongs to another tool.
    """
    raw = reading.document.value
    known = isinstance(raw, dict) and raw.keys() <= GridFile.model_fields.keys()
    foreign = None if known else recognised(raw)
    if foreign is not None:
        raise ConfigError(Fault(foreign, file=reading.document.file))
    if not isinstance(raw, dict):
        reading.fault((), f"a grid file is a mapping with keys such as base and grid, but got {brief(raw)}")
        reading.stop_at_faults()
    given = {key: value for key, value in raw.items() if value is not None or key in ("epochs", "patience")}
    keys = _overridden(given, reading.key_overrides)
    while True:
        try:
            return GridFile.model_validate(keys)
        except ValidationError as error:
            for detail in error.errors():
                keys.pop(str(detail["loc"][0]), None)
                reading.fault(detail["loc"], _rule(detail))


def read_name(reading: Reading, file: GridFile, stem: str) -> str:
    """Return the name of the study: the file's own, or that of the file."""
    if file.name is not None:
        return file.name
    try:
        GridFile(name=stem)
    except ValidationError:
        rule = "cannot be the study's name, which may have up to 100 characters of a-z, 0-9, _ and -; give a name here"
        reading.fault(("name",), f"the file name '{printable(stem[:100])}' {rule}")
    return stem


def read_base(reading: Reading, file: GridFile) -> dict[str, Any]:
    """Return the settings that all cells share."""
    base = {name: reading.value(("base", name), name, raw) for name, raw in file.base.items()}
    for name in ("epochs", "patience", "use"):
        if name not in file.model_fields_set:
            continue
        if name in base:
            line = reading.line(("base", name))
            reading.fault((name,), f"base sets {name} too (line {line}); keep one of them")
        raw = getattr(file, name)
        base[name] = reading.value((name,), name, [raw] if name == "use" and isinstance(raw, str) else raw)
    return base


def _overridden(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the file, those that `--set` gives replaced."""
    keys = dict(raw)
    for key, value in overrides.items():
        outer, _, inner = key.partition(".")
        if not inner:
            keys[outer] = value
        elif isinstance(keys.setdefault(outer, {}), dict):
            keys[outer] = {**keys[outer], inner: value}
    return keys


def _rule(detail: Any) -> str:
    """Return pydantic's message about a key of the file in our words."""
    if detail["type"] == "extra_forbidden":
        return _unknown(detail["loc"])
    if detail["type"].startswith("byte_size"):
        return f"must be an amount of memory such as 6GB, but got {brief(detail['input'])}"
    rule = str(detail["msg"])
    for theirs, ours in (
        ("Input should be", "must be"),
        ("String should", "must"),
        ("a valid dictionary or instance of Budget", "a mapping"),
        ("a valid dictionary", "a mapping"),
        ("a valid string", "text"),
        ("Value error, ", ""),
    ):
        rule = rule.replace(theirs, ours)
    scalar = detail["type"] == "string_type" and not isinstance(detail["input"], list | dict)
    return f"{rule}, but got {brief(detail['input'])}" + ("; put it in quotes" if scalar else "")


def _unknown(path: tuple[Any, ...]) -> str:
    name = str(path[-1])
    if len(path) == 1 and name in SearchFile.model_fields:
        setting = ", or, as a setting, under `base`" if is_setting(name) else ""
        return f"belongs under `search`, as in search: {{{name}: …}}{setting}"
    if len(path) == 1 and is_setting(name):
        return "is a setting: put its value under `base`, or a list of values under `grid`"
    known = _PARTS.get(str(path[0]), GridFile).model_fields
    return f"unknown key.{suggest(name, known)} Known: {', '.join(known)}"
