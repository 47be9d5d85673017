"""Which dimensions mattered, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

from lab.errors import StudyError
from lab.report.importance import FEWEST_CELLS, StudyImportance, importance
from lab.report.render_importance import importance_verdict
from lab.report.sections.source import Source

__all__ = ["Mattered", "mattered"]

_QUICK_CELLS = 40  # a second on a slow core


@dataclass(frozen=True)
class Mattered:
    """The answer in words, and the importance of each dimension; None if it cannot be told."""

    verdict: str
    found: StudyImportance | None = None


def mattered(source: Source, *, quick: bool = False) -> Mattered:
    """Return which dimensions of the study mattered; if `quick`, not of so many cells that it takes over a second."""
    finished = len(source.finished)
    if finished < FEWEST_CELLS:  # bars would show what cannot be told from chance
        return Mattered(
            f"Too few cells to tell what mattered: {finished} with a result, of at least {FEWEST_CELLS} needed."
        )
    if quick and finished > _QUICK_CELLS:
        return Mattered(
            f"Not worked out at the end of the sweep, because of {finished:,} cells: `lab report {source.study}` does."
        )
    try:
        found = importance(source.trials, source.trials.attrs["varied"])
    except StudyError as error:
        return Mattered(f"{error}.")
    return Mattered(importance_verdict(found), found)
