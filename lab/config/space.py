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
from typing import Any, Final

from lab.config.dimension import (
    MISSING,
    Clause,
    Dimension,
    conditions_of,
    dimensions_of,
    frozen,
    sorted_by_need,
    sources_of,
    token,
)
from lab.config.kinds import as_text
from lab.config.problems import find_problems
from lab.config.ranges import Range
from lab.config.yaml import dotted
from lab.errors import ConfigError, Fault
from lab.wording import counted

__all__ = ["Point", "Space"]

_MAX_BLOCKS: Final = 100_000
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
        self._sources = sources_of(self.dimensions)
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
        for number in sorted_by_need(self.dimensions, self._sources):
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
        if value is MISSING:
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
        order = sorted_by_need(self.dimensions, self._sources)
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
