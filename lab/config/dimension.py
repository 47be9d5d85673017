"""`Dimension`: one thing that a grid varies, with the conditions under which it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lab.config.ranges import Range

__all__ = [
    "MISSING",
    "Clause",
    "Dimension",
    "conditions_of",
    "dimensions_of",
    "frozen",
    "sorted_by_need",
    "sources_of",
    "token",
]

Clause = tuple[str, tuple[Any, ...]]  # a key, and the values of which it must have one
Bundle = tuple[tuple[str, Any], ...]

#: The value of a setting that nothing sets.
MISSING: Final = object()


@dataclass(frozen=True)
class Dimension:
    """One thing that varies: a setting over values or a range, or variants over labels with a bundle each.

    The `candidates` of a range are its ends.
    """

    name: str
    candidates: tuple[Any, ...]
    bundles: tuple[Bundle, ...] | None = None
    when: tuple[Clause, ...] = ()
    range: Range | None = None

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The settings that it can set."""
        if self.bundles is None:
            return (self.name,)
        return tuple(dict.fromkeys(name for bundle in self.bundles for name, _ in bundle))

    @cached_property
    def positions(self) -> dict[Any, int]:
        """The position of each candidate, by its `token`."""
        return {token(candidate): position for position, candidate in enumerate(self.candidates)}

    def values(self, position: int) -> dict[str, Any]:
        """Return the settings of the candidate at `position`."""
        if self.bundles is None:
            return {self.name: self.candidates[position]}
        return dict(self.bundles[position])

    def seen(self, key: str, position: int, constants: Mapping[str, Any]) -> Any:
        """Return the value that a condition on `key` compares when the candidate at `position` is chosen."""
        if key == self.name:
            return self.candidates[position]
        return self.values(position).get(key, constants.get(key, MISSING))


def frozen(value: Any) -> Any:
    """Return a plain value in hashable form: lists as tuples, mappings as tuples of pairs."""
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((key, frozen(item)) for key, item in value.items())
    return value


def token(value: Any) -> Any:
    """Return the identity of a candidate, by which `1` equals `1.0`, but not `True`."""
    value = frozen(value)
    return (isinstance(value, bool), value)


def conditions_of(when: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Clause, ...]]:
    """Return the clauses of each dimension of a `when`."""
    return {
        name: tuple((key, _allowed(value)) for key, value in clauses.items())
        for name, clauses in when.items()
    }


def dimensions_of(
    grid: Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]] | Range],
    conditions: Mapping[str, tuple[Clause, ...]],
) -> tuple[Dimension, ...]:
    """Return the dimensions of a `grid`, unchecked."""
    dimensions = []
    for name, candidates in grid.items():
        when = conditions.get(name, ())
        if isinstance(candidates, Range):
            dimensions.append(Dimension(name, candidates.ends, None, when, candidates))
        elif isinstance(candidates, Mapping):
            bundles = tuple(
                tuple((field, frozen(value)) for field, value in bundle.items())
                for bundle in candidates.values()
            )
            dimensions.append(Dimension(name, tuple(candidates), bundles, when))
        else:
            dimensions.append(Dimension(name, tuple(frozen(value) for value in candidates), None, when))
    return tuple(dimensions)


def sources_of(dimensions: Sequence[Dimension]) -> dict[str, int]:
    """Return which dimension determines each key; a dimension takes precedence over a setting of the same name."""
    sources = {field: number for number, dim in enumerate(dimensions) for field in dim.fields}
    return {**sources, **{dim.name: number for number, dim in enumerate(dimensions)}}


def _needs(dimension: Dimension, sources: Mapping[str, int]) -> set[int]:
    return {sources[key] for key, _ in dimension.when if key in sources}


def sorted_by_need(dimensions: Sequence[Dimension], sources: Mapping[str, int]) -> list[int]:
    """Return the dimensions in file order, but each after those it needs; those in a circle are left out."""
    order: list[int] = []
    left = list(range(len(dimensions)))
    while ready := [number for number in left if _needs(dimensions[number], sources) <= set(order)]:
        order.append(ready[0])
        left.remove(ready[0])
    return order


def _allowed(value: Any) -> tuple[Any, ...]:
    return tuple(frozen(item) for item in value) if isinstance(value, list) else (frozen(value),)
