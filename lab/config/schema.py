"""The JSON schema of grid files, by which editors complete keys and show what is wrong with values.

It refuses nothing that `load_grid` accepts, but not all that it refuses: `lab check` also knows which settings
contradict each other. In a file with plug-ins, any key may be a setting of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.config.grid import GridFile
from lab.config.kinds import field_kinds, takes_text
from lab.config.notify import NOTIFY_EVENTS
from lab.config.own import NAMING, own_fields, schema_of
from lab.config.presets import PRESETS
from lab.config.reading.dimensions import MAX_REPEATS
from lab.config.settings import Settings

__all__ = ["grid_schema"]

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SETTINGS: Final = {"$ref": "#/$defs/settings"}
_NULL: Final = {"type": "null"}
_NONE: Final = {"$ref": "#/$defs/none"}
_SPELT_NONE: Final = r"^\s*([Nn][Oo][Nn][Ee]|[Nn][Uu][Ll][Ll])\s*$"
# of a name that is no setting: labels, each with settings
_VARIANTS: Final = {"type": "object", "additionalProperties": _SETTINGS}
_UNQUOTED: Final = ({"type": "number"}, {"type": "boolean"})  # what YAML makes of text such as 001 and no
_PATH: Final = {"type": "string", "pattern": ":"}  # of a plug-in, such as torch.optim:RAdam
_SOURCE: Final = {"type": "string", "pattern": r"^(\$\w+|\$\{\w+\}|file:.+)$"}  # of `notify`
_PATHS: Final = {"anyOf": [_PATH, {"type": "array", "contains": _PATH}]}


def grid_schema() -> Schema:
    """Return the schema of a grid file, with the settings of the plug-ins that are loaded (JSON Schema 2020-12)."""
    schema: Schema = GridFile.model_json_schema()
    settings = _settings()
    schema["$defs"] |= {
        "settings": {"type": ["object", "null"], "properties": {name: _of(name) for name in settings}},
        "range": _range(),
        "none": {"anyOf": [{"const": "none"}, {"type": "string", "pattern": _SPELT_NONE}]},
        **{_key(name): setting for name, setting in settings.items()},
    }
    keys = schema["properties"]
    keys["base"] |= _SETTINGS
    keys["grid"]["properties"] = {name: _listed(name) for name in settings}
    number = {"type": "integer", "minimum": 1, "maximum": MAX_REPEATS}
    keys["repeats"]["anyOf"] = [number, {"type": "array", "items": _of("seed"), "minItems": 1}]
    for short in ("epochs", "patience"):
        keys[short] |= _of(short)
    keys["notify"]["anyOf"] = [*_some(_SOURCE), _notify()]
    keys["gpu_memory"]["anyOf"] = [{"type": kind} for kind in ("string", "integer")]
    for name in keys.keys() - {"epochs", "patience"}:  # which mean something by null; others are then absent
        keys[name] = _or_null(keys[name])
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
    """Return what a file may have for a setting: also `none`, for null or no items, and numbers for text."""
    arms = [_named(name, arm) for arm in setting.get("anyOf", [setting])]
    if field_kinds(name) == {tuple}:  # none means an empty one
        arms.append(_NULL)
    if _NULL in arms:
        arms.append(_NONE)
    if takes_text(name):
        arms += _UNQUOTED
    for each in (arm for arm in arms if takes_text(name) and arm.get("type") == "array"):
        each["items"] = {"anyOf": [each["items"], *_UNQUOTED]}
    about = {key: setting[key] for key in ("description", "default") if key in setting}
    bare = [_bare(arm) for arm in arms]
    return about | (bare[0] if len(bare) == 1 else {"anyOf": bare})


def _or_null(key: Schema) -> Schema:
    """Return the schema of a key that may also be empty."""
    if "type" in key:
        return {**key, "type": [key["type"], "null"]}
    arms = [arm for arm in key.get("anyOf", [{"$ref": key.get("$ref")}]) if arm != _NULL]
    return {name: value for name, value in key.items() if name != "$ref"} | {"anyOf": [*arms, _NULL]}


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
    kinds = {"low": "number", "high": "number", "log": "boolean", "step": ["number", "null"]}
    keys = {name: {"type": kind} for name, kind in {**kinds, "choices": "array", "when": "object"}.items()}
    return {"type": "object", "properties": keys, "additionalProperties": False}
