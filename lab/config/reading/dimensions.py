"""What a grid file varies: the dimensions of its grid, of its search and of its repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lab.config.dimension import Dimension, conditions_of, dimensions_of, frozen, token
from lab.config.grid import GridFile
from lab.config.kinds import suggest_field
from lab.config.own import is_setting, setting_default, setting_names
from lab.config.presets import PRESETS
from lab.config.ranges import describes_values
from lab.config.reading.document import Reading, brief, takes_lists
from lab.config.space import Space
from lab.config.trial import check_value
from lab.config.yaml import KeyPath
from lab.errors import ConfigError

__all__ = [
    "MAX_REPEATS",
    "Outline",
    "constants_of",
    "read_grid",
    "read_overrides",
    "read_repeats",
    "read_varied",
]

#: The highest number that `repeats` can be.
MAX_REPEATS: Final = 10_000


@dataclass(frozen=True)
class Outline:
    """A space as far as it has been read, unchecked; `Space` takes the same arguments."""

    varied: Mapping[str, Any]
    when: Mapping[str, Mapping[str, Any]]
    constants: Mapping[str, Any]

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions, with their conditions."""
        return dimensions_of(self.varied, conditions_of(self.when))

    @cached_property
    def setters(self) -> dict[str, str]:
        """The dimension that sets each setting that varies."""
        return _setters(self.dimensions)

    def space(self) -> Space:
        """Return the space.

        Raises:
            ConfigError: everything that keeps it from being one.
        """
        return Space(self.varied, self.when, self.constants)


def read_grid(reading: Reading, file: GridFile) -> dict[str, Any]:
    """Return what the grid varies: candidates or variants by name."""
    return {
        name: _described(reading, name, raw)
        if isinstance(raw, dict) and describes_values(raw)
        else read_varied(reading, name, raw)
        for name, raw in file.grid.items()
    }


def read_varied(reading: Reading, name: str, raw: Any) -> Any:
    """Return the candidates of a setting, or the variants of another name, by label."""
    return _variants(reading, name, raw) if isinstance(raw, dict) else _candidates(reading, name, raw)


def read_overrides(reading: Reading, varied: Mapping[str, Any], file: GridFile) -> dict[str, Any]:
    """Return the settings that replace those of the base."""
    overrides: dict[str, Any] = {}
    setters = _setters(dimensions_of(varied, {}))
    if isinstance(file.repeats, list):
        setters["seed"] = "repeats"
    for name, raw in reading.setting_overrides.items():
        if name in setters:
            by = "the grid" if setters[name] == name else f"'{setters[name]}'"
            message = f"{by} varies {name}; remove it from the file, or leave out --set {name}"
            reading.option_fault(f"--set {name}", message)
            continue
        try:
            overrides[name] = check_value(name, raw)
        except ConfigError as error:
            for fault in error.faults:
                reading.option_fault(f"--set {name}", fault.message)
    return overrides


def read_repeats(
    reading: Reading, file: GridFile, base: Mapping[str, Any], varied: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the dimension of the seeds: the last one, so that the repeats of a cell are adjacent."""
    seeds = _seeds(reading, file.repeats, base.get("seed", 0))
    if seeds is None:
        return {}
    setters = _setters(dimensions_of(varied, {}))
    if "seed" in setters:
        reading.fault(("repeats",), f"'{setters['seed']}' already sets the seed; keep one of them")
        return {}
    return {"seed": seeds}


def constants_of(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every setting unless something varies it: from the base, its preset or the default."""
    preset = base.get("preset")
    bundle = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    defaults = {name: setting_default(name) for name in setting_names()}
    return {**defaults, **{name: frozen(value) for name, value in bundle.items()}, **base}


def _setters(dimensions: tuple[Dimension, ...]) -> dict[str, str]:
    return {name: dimension.name for dimension in dimensions for name in dimension.fields}


def _described(reading: Reading, name: str, raw: Mapping[str, Any]) -> list[Any]:
    """Report that a grid takes lists, not ranges or choices as a search does; return the values, if any."""
    listed = next((value for value in raw.values() if isinstance(value, list)), None)
    if listed is None:
        message = "a grid takes a list of values; a range belongs in search.space, as in {low: 0.01, high: 1}"
    else:
        message = f"a grid takes the list of values itself, as in {name}: {brief(listed)}"
    reading.fault(("grid", name), message)
    reading.wrong.add(name)
    return _candidates(reading, name, listed or [None]) if not is_setting(name) else [None]


def _candidates(reading: Reading, name: str, raw: Any) -> list[Any]:
    if not is_setting(name):
        reading.wrong.add(name)
        message = f"unknown setting.{suggest_field(name)} Variants are a mapping of labels"
        reading.fault(("grid", name), message)
        return [frozen(value) for value in raw] if isinstance(raw, list) and raw else [None]
    if raw is None:
        return []
    if not isinstance(raw, list):
        return [reading.value(("grid", name), name, raw)]
    if takes_lists(name) and any(isinstance(value, int | float) for value in raw):
        message = f"each candidate is itself a list, as in {name}: [[6, 16], [8, 32]], but got {brief(raw)}"
        reading.fault(("grid", name), message)
        return [frozen(value) for value in raw]
    return [reading.value(("grid", name, index), name, value) for index, value in enumerate(raw)]


def _variants(reading: Reading, name: str, raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    path: KeyPath = ("grid", name)
    if is_setting(name):
        reading.fault(path, "is a setting and takes a list of values; variants need a name of their own")
    elif not name or len(name) > 100 or not name.replace("-", "_").isidentifier():
        reading.fault(
            path, "the name of variants may have letters, digits, _ and -, and must not begin with a digit"
        )
    return {label: _bundle(reading, (*path, label), label, bundle) for label, bundle in raw.items()}


def _bundle(reading: Reading, path: KeyPath, label: str, raw: Any) -> dict[str, Any]:
    if not label.strip() or len(label) > 100 or not label.isprintable():
        reading.fault(path, "a label has 1 to 100 printable characters")
    if raw is not None and not isinstance(raw, dict):
        reading.fault(path, f"must be a mapping of settings, but got {brief(raw)}")
        return {"?": label}  # unlike any other, so that it is not reported as a duplicate too
    return {name: reading.value((*path, name), name, value) for name, value in (raw or {}).items()}


def _seeds(reading: Reading, repeats: Any, first: Any) -> list[Any] | None:
    path: KeyPath = ("repeats",)
    if isinstance(repeats, list) and repeats:
        seeds = [reading.value((*path, index), "seed", seed) for index, seed in enumerate(repeats)]
        distinct: dict[Any, Any] = {}
        for index, seed in enumerate(seeds):
            if distinct.setdefault(token(seed), index) != index:
                reading.fault((*path, index), f"the seed {brief(seed)} is listed twice")
        return [seeds[index] for index in distinct.values()]
    if type(repeats) is not int or not 1 <= repeats <= MAX_REPEATS:
        rule = f"must be a number from 1 to {MAX_REPEATS:,} or a list of seeds"
        reading.fault(path, f"{rule}, but got {brief(repeats)}")
        return None
    if repeats == 1 or type(first) is not int:
        return None
    reading.value(path, "seed", first + repeats - 1)
    return list(range(first, first + repeats))
