"""The progress of a sweep in a Jupyter notebook: one output, which is replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.jupyter import JupyterMixin

from lab.engines.progress import Progress
from lab.engines.progress_table import progress_table

__all__ = ["NotebookProgress", "notebook_progress"]

_COLUMNS, _LINES = 100, 40  # of the output


@dataclass
class Shown(JupyterMixin):
    """What the output shows."""

    progress: Progress

    def __rich__(self) -> RenderableType:
        """Return the table of a terminal."""
        return progress_table(self.progress, _COLUMNS, _LINES)


class NotebookProgress:
    """Shows progress in the output of a cell.

    Args:
        display: IPython's function, or one like it.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._output: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show the progress, in place of what was shown before."""
        if self._output is None:
            self._output = self._display(Shown(progress), display_id=True)
        else:
            self._output.update(Shown(progress))


def notebook_progress() -> NotebookProgress | None:
    """Return what shows progress where this runs in a notebook's kernel, else None; imports nothing."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if (
        getattr(shell, "kernel", None) is None
    ):  # such as a terminal's IPython, which cannot replace its output
        return None
    return NotebookProgress(ipython.display.display)
