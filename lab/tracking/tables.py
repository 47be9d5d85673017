"""Copies rows between databases that have the same tables, such as from SQLite to PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

__all__ = ["Row", "TableCopier", "count_rows"]

Row = dict[str, Any]

_PART = 5000  # rows at a time


def count_rows(source: sa.Connection, tables: Iterable[sa.Table]) -> int:
    """Return how many rows `tables` have together."""
    return sum(source.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables)


class TableCopier:
    """Copies tables into a PostgreSQL database, each after those that it refers to; rows that are there stay.

    Args:
        source: of the rows.
        target: in a transaction of the caller's.
        ids: by the name of an id's column, the id in the target for each in the source. Rows with another one are left
            out. New ids, where the target numbers the rows, are added.
        on_rows: called with the number of rows after each part.
    """

    def __init__(
        self,
        source: sa.Connection,
        target: sa.Connection,
        ids: dict[str, dict[int, int]],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._source = source
        self._target = target
        self._on_rows = on_rows
        self.ids = ids

    def copy(
        self, table: sa.Table, *only: sa.ColumnElement[bool], change: Callable[[Row], Row] | None = None
    ) -> None:
        """Copy the rows of a table for which `only` is true, as `change` returns them."""
        numbered, change = table.autoincrement_column, change or (lambda row: row)
        query = sa.select(table).where(*only).order_by(*([] if numbered is None else [numbered]))
        rows = self._source.execution_options(yield_per=_PART).execute(query)
        for part in rows.mappings().partitions():
            chosen = [
                change(self._follow(dict(row), numbered)) for row in part if self._is_chosen(row, numbered)
            ]
            if chosen and numbered is None:
                self._target.execute(postgresql.insert(table).on_conflict_do_nothing(), chosen)
            elif chosen:
                self._add(table, numbered, chosen)
            self._on_rows(len(part))

    def _add(self, table: sa.Table, numbered: Any, rows: list[Row]) -> None:
        """Insert rows under new ids, and remember these."""
        old = [row.pop(numbered.name) for row in rows]
        adding = sa.insert(table).returning(numbered, sort_by_parameter_order=True)
        new = self._target.scalars(adding, rows)
        self.ids.setdefault(numbered.name, {}).update(zip(old, new, strict=True))

    def _is_chosen(self, row: Any, numbered: Any) -> bool:
        return all(row[name] is None or row[name] in known for name, known in self._references(row, numbered))

    def _follow(self, row: Row, numbered: Any) -> Row:
        changed = {name: known.get(row[name], row[name]) for name, known in self._references(row, numbered)}
        return {name: _storable(value) for name, value in {**row, **changed}.items()}

    def _references(self, row: Any, numbered: Any) -> Iterable[tuple[str, dict[int, int]]]:
        own = None if numbered is None else numbered.name
        return ((name, known) for name, known in self.ids.items() if name in row and name != own)


def _storable(value: Any) -> Any:
    """Return a value without the one character that SQLite stores in a text and PostgreSQL does not."""
    return value.replace("\0", "") if isinstance(value, str) else value
