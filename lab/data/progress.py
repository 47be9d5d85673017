"""A progress bar for work that turns out to take long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

__all__ = ["track"]

T = TypeVar("T")


def track(
    sizes: Iterable[tuple[int, T]],
    total: int,
    what: str,
    *,
    console: Console | None = None,
    patience: float = 1.0,
) -> Iterator[T]:
    """Yield the items; on a terminal, show a progress bar once they have taken more than `patience` seconds.

    Args:
        sizes: each item with its share of `total`.
        total: sum of all sizes.
        what: label of the bar.
        console: where to draw it; stderr if None.
        patience: in seconds.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield from (item for _, item in sizes)
        return
    began = time.monotonic()
    with_bar = Progress(console=console, transient=True)
    task = with_bar.add_task(what, total=total)
    try:
        for size, item in sizes:
            yield item
            with_bar.advance(task, size)
            if time.monotonic() - began > patience:
                with_bar.start()  # does nothing the second time
    finally:
        with_bar.stop()
