"""What `lab plan` shows of a search: its space, how it is searched, and its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lab import engines
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import SearchPlan

__all__ = ["search_table"]


def search_table(plan: SearchPlan) -> RenderableType:
    """Return a search, ready to print."""
    grid, search = plan.grid, plan.search
    title = f"{grid.name}: a search over {counted(len(grid.space.dimensions), 'parameter')}"
    space = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("parameter", "from", "when"):
        space.add_column(heading)
    for dimension in grid.space.dimensions:
        space.add_row(dimension.name, *map(Text, engines.dimension_values(dimension)))
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
        "trials": ", ".join(f"{number:,} {state}" for state, number in sorted(plan.states.items()))
        or "none yet",
    }
    return Group(space, *(Text(f"{name}: {text}") for name, text in lines.items() if text))


def _limit(what: str, number: float) -> str:
    return counted(number, what.removesuffix("s")) if isinstance(number, int) else f"{number:,} {what}"
