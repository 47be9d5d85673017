"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

__all__ = ["terminal"]

_FILE_WIDTH = 200  # columns, where there is no terminal whose width counts


def terminal() -> Console:
    """Return a console on stdout; in a file or a pipe lines may be long, and no column is left out."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_FILE_WIDTH)
