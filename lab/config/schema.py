"""The JSON schema of grid files, by which editors complete keys and show what is wrong with values.

It refuses nothing that `load_grid` accepts, but not all that it refuses: `lab check` also knows which settings
contradict each other. In a file with plug-ins, any key may be a setting of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.config.grid import GridFile
from lab.config.kinds import takes_text
from lab.config.notify import NOTIFY_EVENTS
from lab.config.own import NAMING, own_fields, schema_of
from lab.config.presets import PRESETS
from lab.config.ranges import RANGE_KEYS
from lab.config.settings import Settings

__all__ = ["grid_schema"]

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SETTINGS: Final = {"$ref": "#/$defs/settings"}
_VARIANTS: Final = {  # of a name that is no setting: labels, each with settings
    "type": "object",
    "additionalProperties": {"anyOf": [_SETTINGS, {"type": "null"}]},
}
_UNQUOTED: Final = ({"type": "number"}, {"type": "boolean"})  # what YAML makes of text such as 001 and no
_PATH: Final = {"type": "string", "pattern": ":"}  # of a plug-in, such as torch.optim:RAdam
_SOURCE: Final = {"type": "string", "pattern": r"^(\$\w+|\$\{\w+\}|file:.+)$"}  # of `notify`
_PATHS: Final = {"anyOf": [_PATH, {"type": "array", "contains": _PATH}]}


def grid_schema() -> Schema:
    """Return the schema of a grid file, with the settings of the plug-ins that are loaded (JSON Schema 2020-12)."""
    schema: Schema = GridFile.model_json_schema()
    settings = _settings()
    schema["$defs"] |= {
        "settings": {"type": "object", "properties": {name: _of(name) for name in settings}},
        "range": _range(),
        **{_key(name): setting for name, setting in settings.items()},
    }
    keys = schema["properties"]
    keys["base"] |= _SETTINGS
    keys["grid"]["properties"] = {name: _listed(name) for name in settings}
    keys["repeats"]["anyOf"] = [{"type": "integer", "minimum": 1}, {"type": "array", "items": _of("seed")}]
    for short in ("epochs", "patience"):
        keys[short] |= _of(short)
    keys["notify"]["anyOf"] = [*_some(_SOURCE), _notify(), {"type": "null"}]
    keys["gpu_memory"]["anyOf"] = [{"type": kind} for kind in ("string", "integer", "null")]
    schema["$defs"]["SearchFile"]["properties"]["space"]["properties"] = {
        name: {"anyOf": [{"$ref": "#/$defs/range"}, _listed(name)]} for name in settings
    }
    only_labs = {"if": {"not": _has_plugins()}, "then": {"properties": _known(settings)}}
    return {"$schema": _DIALECT, **schema, **only_labs, "title": "A grid file of lab"}


def _known(names: Iterable[str]) -> Schema:
    """Return what holds in a file without plug-ins: every key is a setting of lab's, or the name of variants."""
    settings = dict.fromkeys(names, True)
    varied = {"properties": settings, "additionalProperties": _VARIANTS}
    return {
        "base": {"properties": settings, "additionalProperties": False},
        "grid": varied,
        "search": {"properties": {"space": varied}},
    }


def _has_plugins() -> Schema:
    named = [{"properties": {name: _PATHS}, "required": [name]} for name in NAMING]
    places = [{"properties": {key: {"anyOf": named}}, "required": [key]} for key in ("base", "grid")]
    return {
        "anyOf": [
            {"required": ["use"]},
            {"properties": {"base": {"required": ["use"]}}, "required": ["base"]},
            *places,
        ]
    }


def _settings() -> Mapping[str, Schema]:
    """Return the schema of each setting, by name."""
    own = {
        name: schema_of(name) | ({"description": field.description} if field.description else {})
        for name, field in own_fields().items()
    }
    lab = Settings.model_json_schema()["properties"]
    return {name: _as_written(name, setting) for name, setting in {**lab, **own}.items()}


def _as_written(name: str, setting: Schema) -> Schema:
    """Return what a file may have for a setting: also `none` where null is, and text that YAML takes for a number."""
    arms = [_named(name, arm) for arm in setting.get("anyOf", [setting])]
    if {"type": "null"} in arms:
        arms.append({"const": "none"})
    if takes_text(name):
        arms += _UNQUOTED
    for each in (arm for arm in arms if takes_text(name) and arm.get("type") == "array"):
        each["items"] = {"anyOf": [each["items"], *_UNQUOTED]}
    about = {key: setting[key] for key in ("description", "default") if key in setting}
    bare = [_bare(arm) for arm in arms]
    return about | (bare[0] if len(bare) == 1 else {"anyOf": bare})


def _bare(arm: Schema) -> Schema:
    return {key: value for key, value in arm.items() if key not in ("default", "description", "title")}


def _named(name: str, arm: Schema) -> Schema:
    """Return the schema of a text with the names that lab knows, for an editor to propose; others may be plug-ins."""
    known = sorted(PRESETS) if name == "preset" else sorted(NAMING[name]) if name in NAMING else []
    if not known:
        return arm
    named = {"anyOf": [{"enum": known}, {"type": "string"}]}
    return (
        {**arm, "items": named}
        if arm.get("type") == "array"
        else named
        if arm.get("type") == "string"
        else arm
    )


def _key(name: str) -> str:
    return f"setting.{name}"


def _of(name: str) -> Schema:
    return {"$ref": f"#/$defs/{_key(name)}"}


def _listed(name: str) -> Schema:
    return {"anyOf": [{"type": "array", "items": _of(name), "minItems": 1}, _of(name)]}


def _notify() -> Schema:
    parts = {"to": {"anyOf": _some(_SOURCE)}, "events": {"anyOf": _some({"enum": list(NOTIFY_EVENTS)})}}
    return {"type": "object", "properties": parts, "required": ["to"], "additionalProperties": False}


def _some(one: Schema) -> list[Schema]:
    """Return the schemas of one thing, and of a list of such things."""
    return [one, {"type": "array", "items": one, "minItems": 1}]


def _range() -> Schema:
    numbers: Schema = {key: {"type": "number"} for key in RANGE_KEYS if key != "log"}
    others = {"log": {"type": "boolean"}, "choices": {"type": "array"}, "when": {"type": "object"}}
    return {"type": "object", "properties": {**numbers, **others}, "additionalProperties": False}
