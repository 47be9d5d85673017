"""The space of a search: its ranges, choices and variants, and the conditions within it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.config.foreign import MEANT_BY
from lab.config.own import is_setting
from lab.config.ranges import Range, describes_values, read_range
from lab.config.reading.dimensions import read_varied
from lab.config.reading.document import Reading
from lab.config.search import GRID_SAMPLER, SearchFile
from lab.config.yaml import KeyPath
from lab.registry import suggest

__all__ = ["read_searched"]

Conditions = dict[str, dict[str, Any]]


def read_searched(
    reading: Reading, search: SearchFile, grid: Mapping[str, Any], when: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, Any], Conditions]:
    """Return what a search varies, and the conditions of the whole file.

    Args:
        reading: of the file.
        search: its search.
        grid: what its grid varies.
        when: its conditions outside the search.
    """
    varied: dict[str, Any] = {}
    conditions: Conditions = {}
    for name, raw in search.space.items():
        choices = _choices(reading, name, raw, grid, conditions)
        if choices is None:
            varied[name] = _range(reading, name, raw, every_point=search.tries_every_point)
        else:
            varied[name] = read_varied(reading, name, choices)
    for name in when.keys() & conditions.keys():
        reading.fault(("search", "space", name, "when"), f"`when` has {name} too; keep one of them")
    return varied, {**when, **conditions}


def _choices(reading: Reading, name: str, raw: Any, grid: Mapping[str, Any], conditions: Conditions) -> Any:
    """Return the candidates or the variants of `name`, None if it is a range; add its condition to `conditions`."""
    path: KeyPath = ("search", "space", name)
    if name in grid:
        line = reading.line(("grid", name))
        reading.fault(path, f"the grid varies {name} too (line {line}); keep one of them")
    reading.move(("grid", name), path)
    if not isinstance(raw, dict):
        return raw
    if not is_setting(name) and not describes_values(raw):
        return raw  # variants
    _take_condition(reading, name, raw, conditions)
    listed = next((key for key in raw if MEANT_BY.get(key) == "choices"), "")
    if isinstance(raw.get(listed), list) and "choices" not in raw:
        message = f"choices are a list, as in {name}: [a, b], or {{choices: [a, b]}}"
        reading.fault((*path, listed), message)
        reading.move(("grid", name), (*path, listed))
        return raw[listed]
    if "choices" in raw:
        reading.move(("grid", name), (*path, "choices"))
        for key in raw.keys() - {"choices", "when"}:
            near = suggest(key, ("choices", "when"))
            reading.fault((*path, key), f"unknown key.{near} Choices have the keys choices and when")
        return raw["choices"]
    if not is_setting(name):
        return []  # reported as an unknown setting
    return None


def _take_condition(reading: Reading, name: str, raw: Mapping[str, Any], conditions: Conditions) -> None:
    if "when" not in raw:
        return
    path: KeyPath = ("search", "space", name, "when")
    condition = raw["when"]
    if not isinstance(condition, dict):
        reading.fault(path, f"must be a mapping, as in {{optimizer: sgd}}, but got {condition!r}")
        return
    conditions[name] = condition
    reading.move(("when", name), path)


def _range(reading: Reading, name: str, raw: Mapping[str, Any], *, every_point: bool) -> Range | list[Any]:
    """Return the range of a setting, or all its numbers if every point is to be tried.

    A wrong one is reported, and replaced by a single choice without a value.
    """
    found, problems = read_range(name, raw)
    if found is not None and every_point and (values := found.values()) is None:
        problems = [
            ("", f"the sampler {GRID_SAMPLER} tries every point, so {name} needs a step or a list of values")
        ]
    for key, message in problems:
        reading.fault(("search", "space", name, *([key] if key else [])), message)
    if found is None or problems:
        return [None]
    return list(values or ()) if every_point else found
