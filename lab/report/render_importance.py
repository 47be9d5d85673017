"""The importance of a study's dimensions, as a sentence and tables for a terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lab.report.importance import FEWEST_CELLS, Share, StudyImportance
from lab.wording import counted

__all__ = ["importance_verdict", "render_importance"]

_MOST_PAIRS = 5


def importance_verdict(found: StudyImportance) -> str:
    """Return in a sentence or two which dimension mattered most, or that there are too few cells to tell."""
    cells, metric = counted(found.cells, "cell"), found.metric
    if found.cells < FEWEST_CELLS:
        return f"Too few cells to tell what mattered for {metric}: {found.cells}; at least {FEWEST_CELLS} are needed."
    clear = [each.name for each in found.dimensions if each.is_clear]
    if not clear:
        return f"What mattered for {metric} cannot be told: in {cells}, no effect stands out from chance."
    unclear = [each.name for each in found.dimensions if not each.is_clear]
    rest = f" No effect of {_listed(unclear, 'or')} can be told from chance." if unclear else ""
    return f"Of {cells}: {_leaders(found)}.{rest}"


def _leaders(found: StudyImportance) -> str:
    best, overall, metric = found.best_leader, found.overall_leader, found.metric
    if best is None and overall is None:
        clear = [each.name for each in found.dimensions if each.is_clear]
        return f"{_listed(clear)} had an effect on {metric}, but there are too few to tell what mattered most"
    said = []
    if overall is not None:
        said.append(
            f"{overall.name} mattered most for {metric} overall: {_share(overall.overall)} of the variance"
        )
    if best is not None:
        said.append(f"{best.name} mattered most for the best {metric}: {_share(best.best)}")
    else:
        said.append(f"which one makes the best is not sure ({_firsts(found)})")
    return "; ".join(said)


def _firsts(found: StudyImportance) -> str:
    """Return which dimensions came first for the best, and in how many resamples."""
    ordered = sorted(found.dimensions, key=lambda each: -each.best.first)
    often = [each for each in ordered if each.best.first >= 0.05]
    return "first in the resamples: " + ", ".join(f"{each.name} in {each.best.first:.0%}" for each in often)


def render_importance(found: StudyImportance) -> Group:
    """Return the importance of each dimension and the clearest interactions as tables to print."""
    parts = [_dimensions(found)]
    if any(not math.isnan(pair.p) for pair in found.interactions):
        parts.append(_interactions(found))
    return Group(*parts)


def _dimensions(found: StudyImportance) -> Table:
    of = counted(found.cells, "cell")
    of += f" ({counted(found.trials, 'trial')})" if found.trials != found.cells else ""
    table = _table(f"{found.metric} in {of}", "dimension", "for the best", "overall", "first", "p", "cells")
    for each in found.dimensions:
        row = (
            each.name,
            _share(each.best),
            _share(each.overall),
            f"{each.best.first:.0%}",
            _p(each.p),
            f"{each.cells:,}",
        )
        table.add_row(*map(Text, row), style="bold" if each.is_clear else None)
    return table


def _interactions(found: StudyImportance) -> Table:
    shown = [pair for pair in found.interactions if not math.isnan(pair.p)]
    some = f" (the largest {_MOST_PAIRS} of {len(shown)})" if len(shown) > _MOST_PAIRS else ""
    table = _table(f"Interactions{some}", "pair", "share of the variance", "p")
    for pair in shown[:_MOST_PAIRS]:
        row = (f"{pair.first} and {pair.second}", f"{pair.share:.0%}", _p(pair.p))
        table.add_row(*map(Text, row), style="bold" if pair.is_clear else None)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold"
    )
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table


def _share(share: Share) -> str:
    if math.isnan(share.value):
        return "–"
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _p(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _listed(names: list[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
