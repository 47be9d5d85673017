"""The claims of a grid file, each with the comparisons of which it consists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

from lab.config.claims import Claim, ClaimEntry
from lab.config.dimension import Clause
from lab.config.grid import GridFile
from lab.config.reading.dimensions import Outline
from lab.config.reading.document import Reading
from lab.config.reading.selections import read_clauses
from lab.config.selection import Selection

__all__ = ["read_claims"]

Clauses = tuple[Clause, ...]
Pairs = tuple[tuple[Selection, Selection], ...]


def read_claims(reading: Reading, file: GridFile, outline: Outline) -> tuple[Claim, ...]:
    """Return the claims of a report."""
    return tuple(_claim(reading, index, entry, outline) for index, entry in enumerate(file.claims))


def _claim(reading: Reading, index: int, entry: ClaimEntry, outline: Outline) -> Claim:
    place = ("claims", index)
    cells = read_clauses(reading, (*place, "cells"), entry.cells, outline)
    other = getattr(entry, entry.says)
    pairs: Pairs = ()
    if isinstance(other, dict):
        clauses = read_clauses(reading, (*place, entry.says), other, outline)
        if entry.says == "rising" and len(clauses[0][1]) < 2:
            reading.fault((*place, "rising"), "needs two values or more, in order")
        pairs = tuple(_steps(cells, *clauses) if entry.says == "rising" else _each(cells, clauses))
    return Claim(
        entry.claim,
        entry.says,
        Selection(cells),
        pairs,
        entry.within or entry.below or 0.0,
        entry.outcome or "",
        entry.note,
    )


def _steps(cells: Clauses, rising: Clause) -> Iterator[tuple[Selection, Selection]]:
    """Yield each value but the first with the one before."""
    key, values = rising
    for before, after in pairwise(values):
        yield Selection((*cells, (key, (after,)))), Selection((*cells, (key, (before,))))


def _each(cells: Clauses, others: Clauses) -> Iterator[tuple[Selection, Selection]]:
    """Yield each combination of one side's values with each of the other's; what both share only restricts them."""
    for one, other in product(_single(cells, others), _single(others, cells)):
        yield Selection(one), Selection(other)


def _single(clauses: Clauses, shared: Clauses) -> Iterator[Clauses]:
    sets = [
        [(key, values)] if (key, values) in shared else [(key, (value,)) for value in values]
        for key, values in clauses
    ]
    yield from product(*sets)
