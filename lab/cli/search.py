"""What `lab plan` shows of a search: its space, how it is searched, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lab.config import Dimension, as_text
from lab.wording import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lab.config import Grid, Search

__all__ = ["describe_search", "search_table"]


def describe_search(grid: Grid, search: Search, states: Mapping[str, int]) -> dict[str, Any]:
    """Return a search as plain values.

    Args:
        grid: its file.
        search: of the file.
        states: how many of its trials are in which state.
    """
    return {
        "name": grid.name,
        "space": {dim.name: _candidates(dim) for dim in grid.space.dimensions},
        "when": {dim.name: _condition(dim) for dim in grid.space.dimensions if dim.when},
        "constraints": [str(constraint) for constraint in grid.constraints],
        "exclude": [str(exclusion) for exclusion in grid.exclude],
        "sampler": asdict(search.sampler),
        "pruner": asdict(search.pruner),
        "objectives": {objective.metric: objective.direction for objective in search.objectives},
        "enqueue": [dict(point) for point in search.enqueue],
        "target": search.target,
        "budget": grid.budget.model_dump(exclude_none=True),
        "states": dict(states),
    }


def search_table(grid: Grid, search: Search, states: Mapping[str, int]) -> RenderableType:
    """Return a search to be printed; the arguments are those of `describe_search`."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = f"{grid.name}: a search of {counted(len(grid.space.dimensions), 'parameter')}"
    space = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("parameter", "from", "when"):
        space.add_column(heading)
    for dim in grid.space.dimensions:
        space.add_row(dim.name, Text(_candidates(dim)), Text(_condition(dim)))
    budget = grid.budget.model_dump(exclude_none=True)
    lines = {
        "sampler": str(search.sampler),
        "pruner": str(search.pruner),
        "objectives": ", ".join(map(str, search.objectives)),
        "target": "" if search.target is None else str(search.target),
        "constraints": "; ".join(str(constraint) for constraint in grid.constraints),
        "exclude": "; ".join(str(exclusion) for exclusion in grid.exclude),
        "enqueue": "; ".join(grid.label(point) for point in search.enqueue),
        "budget": ", ".join(_limit(what, number) for what, number in budget.items()),
        "trials": ", ".join(f"{number:,} {state}" for state, number in sorted(states.items())) or "none yet",
    }
    return Group(space, *(Text(f"{name}: {text}") for name, text in lines.items() if text))


def _limit(what: str, number: float) -> str:
    return counted(number, what.removesuffix("s")) if isinstance(number, int) else f"{number:,} {what}"


def _candidates(dimension: Dimension) -> str:
    if dimension.range is not None:
        return str(dimension.range)
    return ", ".join(as_text(value) for value in dimension.candidates)


def _condition(dimension: Dimension) -> str:
    return ", ".join(
        f"{key}={'|'.join(as_text(value) for value in allowed)}" for key, allowed in dimension.when
    )
