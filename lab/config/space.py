"""`Space`: the parameters a grid varies, as a bijection between cell numbers and points.

A dimension varies one setting over a list of values, or *variants*: labels that each set several settings at
once. A dimension with a `when` is part of a point only if its conditions hold, so that cells that would differ
only in an unused value are counted once::

    space = Space(
        {"optimizer": ["adam", "sgd"], "momentum": [0.5, 0.9], "net": {"plain": {}, "bn": {"norm": "batch"}}},
        when={"momentum": {"optimizer": "sgd"}},
    )
    space.size                 # 2 (adam × net) + 4 (sgd × momentum × net)
    space.at(5)                # Point(optimizer=sgd, momentum=0.9, net=bn)
    space.values(space.at(5))  # {"optimizer": "sgd", "momentum": 0.9, "norm": "batch"}

A dimension of a search may be a `Range`: `build` makes points anywhere in it, while only the cells at its ends are
counted and numbered.
"""

from __future__ import annotations

import bisect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lab.config.kinds import as_text
from lab.config.ranges import Range
from lab.config.yaml import KeyPath, dotted
from lab.errors import ConfigError, Fault
from lab.registry import suggest
from lab.wording import counted

__all__ = [
    "Clause",
    "Dimension",
    "Point",
    "Space",
    "check_clause",
    "conditions_of",
    "dimensions_of",
    "find_problems",
    "frozen",
    "token",
]

Clause = tuple[str, tuple[Any, ...]]  # a key, and the values of which it must have one
Bundle = tuple[tuple[str, Any], ...]
Problem = tuple[KeyPath, str]

_MAX_BLOCKS: Final = 100_000
_MISSING: Final = object()
_INACTIVE: Final = -1


class Point(Mapping[str, Any]):
    """One point of a space: the candidate (for variants, the label) of every active dimension."""

    __slots__ = ("_chosen",)

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._chosen = dict(chosen)

    def __getitem__(self, name: str) -> Any:
        return self._chosen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def __hash__(self) -> int:
        return hash(frozenset(self._chosen.items()))

    def __repr__(self) -> str:
        return f"Point({', '.join(f'{name}={as_text(value)}' for name, value in self.items())})"


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
        return self.values(position).get(key, constants.get(key, _MISSING))


@dataclass(frozen=True)
class _Block:
    """The points in which the same dimensions are active: plain mixed radix over `pools`."""

    start: int
    size: int
    active: tuple[int, ...]  # dimensions, in file order
    pools: tuple[Sequence[int], ...]  # candidate positions of each


class Space:
    """The parameters a study varies; see the module for an example. Immutable.

    Args:
        grid: dimension name -> values, or label -> settings (variants), or a range, in the order of the cells.
        when: dimension name -> its conditions: key -> value, or a list of values of which any one will do. A key
            is another dimension, a setting that variants set, or one of `constants`. A condition on a
            dimension that is itself inactive does not hold.
        constants: the values of settings that do not vary, for conditions.

    Raises:
        ConfigError: everything that is wrong: no candidates, duplicates, settings set twice, conditions on
            unknown keys or values, circular conditions.
    """

    def __init__(
        self,
        grid: Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]] | Range],
        when: Mapping[str, Mapping[str, Any]] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        conditions = conditions_of(when or {})
        self.constants = {name: frozen(value) for name, value in (constants or {}).items()}
        self.dimensions = dimensions_of(grid, conditions)
        problems = find_problems(self.dimensions, conditions, self.constants)
        if problems:
            raise ConfigError([Fault(message, dotted(path)) for path, message in problems])
        self._sources = _sources(self.dimensions)
        self._order = self._controllers()  # dimensions in conditions, each after those it depends on itself
        self._classes = {index: self._classify(index) for index in self._order}
        self._blocks, self._by_key = self._partition()
        self._starts = [block.start for block in self._blocks]
        self.size = self._blocks[-1].start + self._blocks[-1].size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Point]:
        return (self.at(index) for index in range(self.size))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return (self.dimensions, self.constants) == (other.dimensions, other.constants)

    def __hash__(self) -> int:
        return hash(self.dimensions)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim.name}: {len(dim.candidates)}" for dim in self.dimensions)
        return f"Space({sizes}; {counted(self.size, 'cell')})"

    def at(self, index: int) -> Point:
        """Return the point with number `index`; the last dimension changes fastest.

        Raises:
            IndexError: not in `range(size)`.
        """
        index = operator.index(index)
        if not 0 <= index < self.size:
            raise IndexError(f"cell {index} of a space of {self.size}")
        block = self._blocks[bisect.bisect_right(self._starts, index) - 1]
        rest = index - block.start
        chosen: list[tuple[str, Any]] = []
        for number, pool in zip(reversed(block.active), reversed(block.pools), strict=True):
            rest, digit = divmod(rest, len(pool))
            dimension = self.dimensions[number]
            chosen.append((dimension.name, dimension.candidates[pool[digit]]))
        return Point(dict(reversed(chosen)))

    def index(self, point: Mapping[str, Any]) -> int:
        """Return the number of `point`.

        Raises:
            ValueError: not a point of this space.
        """
        positions = self._positions(point)
        key = tuple(
            self._classes[index].of[positions[index]] if index in positions else _INACTIVE
            for index in self._order
        )
        block = self._by_key.get(key)
        if block is None or set(block.active) != positions.keys():
            raise ValueError(f"not a point of the space: {dict(point)}")
        rest = 0
        for number, pool in zip(block.active, block.pools, strict=True):
            rest = rest * len(pool) + bisect.bisect_left(pool, positions[number])
        return block.start + rest

    def values(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that `point` represents, with its variants expanded.

        Raises:
            ValueError: a dimension or a candidate that this space does not have.
        """
        ranged = {
            dim.name: point[dim.name]
            for dim in self.dimensions
            if dim.range is not None and dim.range.holds(point.get(dim.name))
        }
        values: dict[str, Any] = dict(ranged)
        rest = {name: value for name, value in point.items() if name not in ranged}
        for number, position in self._positions(rest).items():
            values.update(self.dimensions[number].values(position))
        return values

    def build(self, choose: Callable[[Dimension], Any]) -> Point:
        """Return the point whose values `choose` returns.

        It is called for each active dimension, after the dimensions that its conditions depend on.
        """
        chosen: dict[str, Any] = {}
        for number in _sorted_by_need(self.dimensions, self._sources):
            dimension = self.dimensions[number]
            if all(self._holds(clause, chosen) for clause in dimension.when):
                chosen[dimension.name] = choose(dimension)
        return Point({dim.name: chosen[dim.name] for dim in self.dimensions if dim.name in chosen})

    def seen(self, key: str, point: Mapping[str, Any]) -> Any:
        """Return the value that a condition or an exclusion on `key` compares at `point`.

        Raises:
            KeyError: `key` is unknown, or its dimension is inactive at `point`.
        """
        number = self._sources.get(key)
        if number is None:
            return self.constants[key]
        dimension = self.dimensions[number]
        value = dimension.seen(key, dimension.positions[token(point[dimension.name])], self.constants)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def _holds(self, clause: Clause, point: Mapping[str, Any]) -> bool:
        key, allowed = clause
        try:
            seen = token(self.seen(key, point))
        except KeyError:  # its dimension is not active
            return False
        return seen in {token(value) for value in allowed}

    def _positions(self, point: Mapping[str, Any]) -> dict[int, int]:
        positions = {
            number: dimension.positions.get(token(point[dimension.name]), _INACTIVE)
            for number, dimension in enumerate(self.dimensions)
            if dimension.name in point
        }
        if len(positions) != len(point) or _INACTIVE in positions.values():
            raise ValueError(f"not a point of the space: {dict(point)}")
        return positions

    def _controllers(self) -> list[int]:
        looked_at = {
            self._sources[key] for dim in self.dimensions for key, _ in dim.when if key in self._sources
        }
        order = _sorted_by_need(self.dimensions, self._sources)
        return [number for number in order if number in looked_at]

    def _classify(self, number: int) -> _Classes:
        """Group a dimension's candidates by the conditions that they meet: one group needs only one block."""
        dimension = self.dimensions[number]
        clauses = [
            clause for dim in self.dimensions for clause in dim.when if self._sources.get(clause[0]) == number
        ]
        tests = [(key, {token(value) for value in allowed}) for key, allowed in clauses]
        groups: dict[tuple[bool, ...], list[int]] = {}
        for position in range(len(dimension.candidates)):
            seen = [token(dimension.seen(key, position, self.constants)) for key, _ in tests]
            truths = tuple(value in allowed for value, (_, allowed) in zip(seen, tests, strict=True))
            groups.setdefault(truths, []).append(position)
        of = {position: index for index, group in enumerate(groups.values()) for position in group}
        holds = {
            clause: frozenset(index for index, truths in enumerate(groups) if truths[place])
            for place, clause in enumerate(clauses)
        }
        return _Classes(tuple(tuple(group) for group in groups.values()), of, holds)

    def _active(self, dimension: Dimension, assigned: Mapping[int, int]) -> bool:
        for clause in dimension.when:
            number = self._sources.get(clause[0])
            if number is None:
                if token(self.constants[clause[0]]) not in {token(value) for value in clause[1]}:
                    return False
            elif assigned[number] not in self._classes[number].holds[clause]:
                return False
        return True

    def _partition(self) -> tuple[list[_Block], dict[tuple[int, ...], _Block]]:
        keys: list[tuple[int, ...]] = [()]
        for number in self._order:
            grown: list[tuple[int, ...]] = []
            for key in keys:
                active = self._active(self.dimensions[number], self._assigned(key))
                choices = range(len(self._classes[number].groups)) if active else (_INACTIVE,)
                grown += [(*key, choice) for choice in choices]
            if len(grown) > _MAX_BLOCKS:
                raise ConfigError(
                    Fault(f"the conditions split the grid into over {_MAX_BLOCKS:,} parts", "when")
                )
            keys = grown
        blocks: list[_Block] = []
        start = 0
        for key in keys:
            block = self._block(start, self._assigned(key))
            blocks.append(block)
            start += block.size
        return blocks, dict(zip(keys, blocks, strict=True))

    def _assigned(self, key: tuple[int, ...]) -> dict[int, int]:
        return dict(zip(self._order, key, strict=False))

    def _block(self, start: int, assigned: Mapping[int, int]) -> _Block:
        active: list[int] = []
        pools: list[Sequence[int]] = []
        for number, dimension in enumerate(self.dimensions):
            if number in assigned:
                if assigned[number] != _INACTIVE:
                    active.append(number)
                    pools.append(self._classes[number].groups[assigned[number]])
            elif self._active(dimension, assigned):
                active.append(number)
                pools.append(range(len(dimension.candidates)))
        return _Block(start, math.prod(len(pool) for pool in pools), tuple(active), tuple(pools))


@dataclass(frozen=True)
class _Classes:
    groups: tuple[tuple[int, ...], ...]  # candidate positions, ascending
    of: Mapping[int, int]  # candidate position -> its group
    holds: Mapping[Clause, frozenset[int]]  # clause -> the groups that meet it


def find_problems(
    dimensions: Sequence[Dimension], when: Mapping[str, Sequence[Clause]], constants: Mapping[str, Any]
) -> list[Problem]:
    """Return everything that prevents `dimensions` from being a space, each with its place in the grid file."""
    problems = [problem for dimension in dimensions for problem in _candidate_problems(dimension)]
    problems += _set_twice(dimensions)
    names = [dimension.name for dimension in dimensions]
    sources = _sources(dimensions)
    for name, clauses in when.items():
        if name not in names:
            problems.append((("when", name), f"the grid has no '{name}'.{suggest(name, names)}"))
            continue
        if not clauses:
            problems.append((("when", name), "has no condition"))
        for key, allowed in clauses:
            path = ("when", name, key)
            problems += [(path, message) for message in check_clause(key, allowed, dimensions, constants)]
    if len(_sorted_by_need(dimensions, sources)) < len(dimensions):
        circle = ", ".join(_circle(dimensions, sources))
        problems.append((("when",), f"circular conditions: {circle}"))
    return problems


def check_clause(
    key: str, allowed: Sequence[Any], dimensions: Sequence[Dimension], constants: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with a condition or an exclusion: an unknown key, or values that match nothing."""
    source = _sources(dimensions).get(key)
    if source is None and key not in constants:
        known = [*(dim.name for dim in dimensions), *_sources(dimensions), *constants]
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
    listed = list(dict.fromkeys(as_text(value) for value in there if value is not _MISSING))
    shown = ", ".join(listed[:10]) + (", …" if len(listed) > 10 else "")
    return [
        f"{_brief(value)} matches nothing: {key} is {shown or 'not set'}"
        for value in allowed
        if token(value) not in tokens
    ]


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


def _allowed(value: Any) -> tuple[Any, ...]:
    return tuple(frozen(item) for item in value) if isinstance(value, list) else (frozen(value),)


def _sources(dimensions: Sequence[Dimension]) -> dict[str, int]:
    """Return which dimension determines each key; a dimension takes precedence over a setting of the same name."""
    sources = {field: number for number, dim in enumerate(dimensions) for field in dim.fields}
    return {**sources, **{dim.name: number for number, dim in enumerate(dimensions)}}


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


def _needs(dimension: Dimension, sources: Mapping[str, int]) -> set[int]:
    return {sources[key] for key, _ in dimension.when if key in sources}


def _sorted_by_need(dimensions: Sequence[Dimension], sources: Mapping[str, int]) -> list[int]:
    """Return the dimensions in file order, but each after those it needs; those in a circle are left out."""
    order: list[int] = []
    left = list(range(len(dimensions)))
    while ready := [number for number in left if _needs(dimensions[number], sources) <= set(order)]:
        order.append(ready[0])
        left.remove(ready[0])
    return order


def _circle(dimensions: Sequence[Dimension], sources: Mapping[str, int]) -> list[str]:
    free = set(_sorted_by_need(dimensions, sources))
    return [dim.name for number, dim in enumerate(dimensions) if number not in free]


def _brief(value: Any) -> str:
    text = as_text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
