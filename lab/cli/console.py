"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

__all__ = ["terminal"]

_FILE_WIDTH = 200  # columns, where there is no terminal whose width counts


def terminal() -> Console:
    """Return a console on stdout; in a file or a pipe lines may be long, and no column is left out.

    Nothing that is printed to it means more than it says: names in brackets or between colons are the users'.
    """
    console = Console(markup=False, emoji=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(markup=False, emoji=False, width=_FILE_WIDTH)
