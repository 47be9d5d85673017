"""The server that worker processes of this machine are forked from."""

from __future__ import annotations

from typing import Any

from lab.children import child_context

__all__ = ["fork_server"]


def fork_server() -> Any:
    """Start the server unless it runs, and return multiprocessing's context for processes forked from it.

    Its imports take seconds, next to whatever this process does: call this early.
    """
    return child_context(["lab.engines.preloaded"])
