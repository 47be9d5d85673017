"""`Selection`: cells of a grid, chosen by the values that they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.config.dimension import Clause, token
from lab.config.kinds import as_text
from lab.config.space import Space

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """A selection of cells: keys, and the values of which a cell must have one."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{key}={'|'.join(as_text(value) for value in allowed)}" for key, allowed in self.clauses
        )

    def matches(self, space: Space, point: Mapping[str, Any]) -> bool:
        """Return whether `point` has one of the values for every key; an inactive dimension has none."""
        return all(_has(space, point, key, allowed) for key, allowed in self.clauses)


def _has(space: Space, point: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> bool:
    try:
        seen = token(space.seen(key, point))
    except KeyError:
        return False
    return any(token(value) == seen for value in allowed)
