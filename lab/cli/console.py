"""How tables are printed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from lab.letters import in_ascii

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_json", "plain_json", "print_row", "terminal"]

_FILE_WIDTH = 200  # columns, where there is no terminal


def terminal() -> Console:
    """Return a console on stdout; in a file or a pipe, lines may be long and no column is dropped.

    It does not interpret markup or emoji codes, since names may contain brackets and colons.
    """
    console = _Console(markup=False, emoji=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return _Console(markup=False, emoji=False, width=_FILE_WIDTH)


def plain_json(values: Any) -> str:
    """Return plain values as JSON, in which NaN and infinities are null."""
    return to_json(values, indent=2, inf_nan_mode="null").decode()


def print_row(values: Iterable[Any]) -> None:
    """Print one line of CSV; `click.echo` also knows what to do where stdout is closed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    click.echo(text.getvalue(), nl=False)


def frame_json(frame: pd.DataFrame) -> str:
    """Return the rows of a table as JSON, with all digits (pandas keeps ten decimals); what is missing is null."""
    values = frame.astype("object")
    return plain_json(values.where(values.notna(), None).to_dict("records"))


class _Console(Console):
    """A console whose tables stay aligned where `±` is written `+-`."""

    def print(self, *objects: Any, **options: Any) -> None:
        for table in objects:
            if self.options.ascii_only and isinstance(table, Table):
                for column in table.columns:
                    column.header = in_ascii(str(column.header))
        super().print(*objects, **options)
