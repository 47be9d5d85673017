"""What prevents dimensions and their conditions from being a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.config.dimension import MISSING, Clause, Dimension, sorted_by_need, sources_of, token
from lab.config.kinds import as_text
from lab.config.yaml import KeyPath, dotted
from lab.registry import suggest

__all__ = ["check_clause", "find_problems"]

Problem = tuple[KeyPath, str]


def find_problems(
    dimensions: Sequence[Dimension], when: Mapping[str, Sequence[Clause]], constants: Mapping[str, Any]
) -> list[Problem]:
    """Return everything that prevents `dimensions` from being a space, each with its place in the grid file."""
    problems = [problem for dimension in dimensions for problem in _candidate_problems(dimension)]
    problems += _set_twice(dimensions)
    names = [dimension.name for dimension in dimensions]
    sources = sources_of(dimensions)
    for name, clauses in when.items():
        if name not in names:
            problems.append((("when", name), f"the grid has no '{name}'.{suggest(name, names)}"))
            continue
        if not clauses:
            problems.append((("when", name), "has no condition"))
        for key, allowed in clauses:
            path = ("when", name, key)
            problems += [(path, message) for message in check_clause(key, allowed, dimensions, constants)]
    if len(sorted_by_need(dimensions, sources)) < len(dimensions):
        circle = ", ".join(_circle(dimensions, sources))
        problems.append((("when",), f"circular conditions: {circle}"))
    return problems


def check_clause(
    key: str, allowed: Sequence[Any], dimensions: Sequence[Dimension], constants: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with a condition or an exclusion: an unknown key, or values that match nothing."""
    source = sources_of(dimensions).get(key)
    if source is None and key not in constants:
        known = [*(dim.name for dim in dimensions), *sources_of(dimensions), *constants]
        return [f"unknown key.{suggest(key, known)} Use a dimension of the grid or a setting"]
    if not allowed:
        return ["has no value"]
    if source is not None and dimensions[source].range is not None:
        return [f"{key} is a range, and a condition can only test choices"]
    if source is None:
        there = [constants[key]]
    else:
        dimension = dimensions[source]
        there = [dimension.seen(key, position, constants) for position in range(len(dimension.candidates))]
    tokens = {token(value) for value in there}
    listed = list(dict.fromkeys(as_text(value) for value in there if value is not MISSING))
    shown = ", ".join(listed[:10]) + (", …" if len(listed) > 10 else "")
    wrong = dict.fromkeys(_brief(value) for value in allowed if token(value) not in tokens)
    return [f"{value} matches nothing: {key} is {shown or 'not set'}" for value in wrong]


def _candidate_problems(dimension: Dimension) -> list[Problem]:
    path: KeyPath = ("grid", dimension.name)
    if not dimension.candidates:
        return [(path, "has no candidates")]
    problems: list[Problem] = []
    first: dict[Any, int] = {}
    variants = dimension.bundles is not None
    for position, candidate in enumerate(dimension.candidates):
        same = token(dict(sorted(dimension.bundles[position]))) if dimension.bundles else token(candidate)
        earlier = first.setdefault(same, position)
        if earlier != position and variants:
            message = f"sets the same values as '{dimension.candidates[earlier]}'"
            problems.append(((*path, candidate), message))
        elif earlier != position:
            message = f"{_brief(candidate)} is listed twice; {dotted((*path, earlier))} is the same"
            problems.append(((*path, position), message))
    return problems


def _set_twice(dimensions: Sequence[Dimension]) -> list[Problem]:
    setters: dict[str, str] = {}
    problems: list[Problem] = []
    for dimension in dimensions:
        for field in dimension.fields:
            other = setters.setdefault(field, dimension.name)
            if other != dimension.name:
                message = f"sets {field}, which '{other}' sets too; keep one of them"
                problems.append((("grid", dimension.name), message))
    return problems


def _circle(dimensions: Sequence[Dimension], sources: Mapping[str, int]) -> list[str]:
    free = set(sorted_by_need(dimensions, sources))
    return [dim.name for number, dim in enumerate(dimensions) if number not in free]


def _brief(value: Any) -> str:
    text = as_text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
