"""Which cells of a grid are meant: `when`, `exclude`, `constraints`, `reported`, and `--only`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab.config.constraint import Constraint, parse_constraint
from lab.config.dimension import Clause, Dimension, conditions_of
from lab.config.grid import GridFile, Reported, ReportedEntry
from lab.config.own import is_setting
from lab.config.presets import PRESETS
from lab.config.problems import check_clause, find_problems
from lab.config.reading.dimensions import Outline
from lab.config.reading.document import Reading, takes_lists
from lab.config.selection import Selection
from lab.config.text import parse_value
from lab.config.trial import check_value
from lab.config.yaml import KeyPath, composed
from lab.errors import ConfigError
from lab.registry import suggest

__all__ = [
    "check_structure",
    "read_clauses",
    "read_constraints",
    "read_exclude",
    "read_only",
    "read_reported",
    "read_when",
]


def read_when(reading: Reading, conditions: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the conditions of each dimension, with the values of which one must hold."""
    return {
        name: {key: list(reading.any_of(("when", name, key), key, raw)) for key, raw in clauses.items()}
        for name, clauses in conditions.items()
    }


def check_structure(reading: Reading, file: GridFile, outline: Outline, base: Mapping[str, Any]) -> None:
    """Note what keeps dimensions and conditions from being a space."""
    wrong = {
        fault.key for fault in reading.faults
    }  # a wrong value is reported once, not for matching nothing too
    for path, message in find_problems(outline.dimensions, conditions_of(outline.when), outline.constants):
        fault = reading.document.fault(reading.place(path), message)
        if not any(key.startswith(fault.key) and path[0] == "when" for key in wrong):
            reading.faults.append(fault)
    _check_varied_preset(reading, file, outline, base)


def read_exclude(reading: Reading, file: GridFile, outline: Outline) -> tuple[Selection, ...]:
    """Return the combinations to leave out."""
    for index, entry in enumerate(file.exclude):
        if not entry:
            reading.fault(("exclude", index), "is empty and would exclude every cell")
    return tuple(
        Selection(read_clauses(reading, ("exclude", index), entry, outline))
        for index, entry in enumerate(file.exclude)
    )


def read_reported(reading: Reading, file: GridFile, outline: Outline) -> tuple[Reported, ...]:
    """Return the figures of a report, each with the cells it is about."""
    return tuple(
        Reported(
            read_clauses(reading, ("reported", index, "cells"), entry.cells, outline),
            _accuracy(entry),
            entry.outcome,
            entry.note,
        )
        for index, entry in enumerate(file.reported)
    )


def read_clauses(
    reading: Reading, place: KeyPath, entry: Mapping[str, Any], outline: Outline
) -> tuple[Clause, ...]:
    """Return keys and the values that each may have, checked against the dimensions."""
    clauses = []
    for key, raw in entry.items():
        path: KeyPath = (*place, key)
        known = len(reading.faults)
        allowed = reading.any_of(path, key, raw)
        if len(reading.faults) == known:
            for message in check_clause(key, allowed, outline.dimensions, outline.constants):
                reading.fault(path, message)
        clauses.append((key, allowed))
    return tuple(clauses)


def read_only(reading: Reading, only: Mapping[str, list[str]], outline: Outline) -> Selection | None:
    """Return the cells that `--only` selects by the values of dimensions; None if it is not given."""
    known = {dimension.name: dimension for dimension in outline.dimensions}
    clauses = []
    for key, texts in only.items():
        option = f"--only {key}"
        if key not in known:
            message = f"not a dimension of the grid.{suggest(key, known)} Its dimensions are {', '.join(sorted(known))}"
            reading.option_fault(option, message)
            continue
        faults = len(reading.faults)
        values = tuple(value for text in texts for value in _chosen(reading, option, known[key], text))
        if len(reading.faults) == faults:
            for message in check_clause(key, values, outline.dimensions, outline.constants):
                reading.option_fault(option, message)
        clauses.append((key, values))
    return Selection(tuple(clauses)) if clauses else None


def read_constraints(reading: Reading, file: GridFile) -> tuple[Constraint, ...]:
    """Return the limits on what is counted before any training."""
    constraints = []
    for index, text in enumerate(file.constraints):
        try:
            constraints.append(parse_constraint(text))
        except ConfigError as error:
            reading.fault(("constraints", index), str(error))
    return tuple(constraints)


def _check_varied_preset(reading: Reading, file: GridFile, outline: Outline, base: Mapping[str, Any]) -> None:
    """Report what looks at a setting that a varied preset sets: it would compare the default."""
    if "preset" not in outline.setters:
        return
    setter = next(dim for dim in outline.dimensions if dim.name == outline.setters["preset"])
    presets = {str(setter.values(position).get("preset")) for position in range(len(setter.candidates))}
    brought = (
        {name for preset in presets for name in PRESETS.get(preset, ())} - _always_set(outline) - set(base)
    )
    for path in _compared(file, outline):
        if path[-1] in brought:
            reading.fault(path, f"{path[-1]} depends on the preset, which varies; use the preset instead")


def _always_set(outline: Outline) -> set[str]:
    """Return the settings that every candidate of a dimension sets, not only some of its variants."""
    return {
        name
        for dim in outline.dimensions
        for name in dim.fields
        if all(name in dim.values(position) for position in range(len(dim.candidates)))
    }


def _compared(file: GridFile, outline: Outline) -> Iterator[KeyPath]:
    """Yield the path of each key by which cells are chosen."""
    chosen: dict[KeyPath, Mapping[str, Any]] = {
        ("when", dim): clauses for dim, clauses in outline.when.items()
    }
    chosen |= {("exclude", index): entry for index, entry in enumerate(file.exclude)}
    chosen |= {("reported", index, "cells"): entry.cells for index, entry in enumerate(file.reported)}
    for index, claim in enumerate(file.claims):
        sides = {"cells": claim.cells, claim.says: getattr(claim, claim.says)}
        chosen |= {("claims", index, side): cells for side, cells in sides.items() if isinstance(cells, dict)}
    yield from ((*path, key) for path, clauses in chosen.items() for key in clauses)


def _accuracy(entry: ReportedEntry) -> float | tuple[float, float] | None:
    value = entry.test_accuracy
    return (value[0], value[-1]) if isinstance(value, list) else value


def _chosen(reading: Reading, option: str, dimension: Dimension, text: str) -> list[Any]:
    """Return the values that a text of `--only` names, or the label that it is as a whole; note what is wrong."""
    label = composed(text.strip())
    if dimension.bundles is not None and label in dimension.candidates:
        return [label]
    values = []
    for part in _parts(dimension.name, text):
        try:
            values.append(_value_of(dimension.name, part))
        except ConfigError as error:
            for fault in error.faults:
                reading.option_fault(option, fault.message)
    return values


def _parts(name: str, text: str) -> list[str]:
    """Return the values in a text, separated by commas, or by semicolons if the values are lists."""
    parts = text.split(";" if takes_lists(name) or ";" in text else ",")
    return [part.strip() for part in parts if part.strip()]


def _value_of(key: str, text: str) -> Any:
    """Return what a text of `--only` means: the value of a setting, or the label of a variant."""
    return check_value(key, parse_value(key, text)) if is_setting(key) else composed(text)
