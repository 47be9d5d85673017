"""Work on many files, done by threads a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import joblib

from lab.data.progress import track

__all__ = ["by_chunks"]

T = TypeVar("T")

_CHUNK = 256  # files per task


def by_chunks(count: int, work: Callable[[int, int], T], what: str) -> Iterator[T]:
    """Yield what `work(start, stop)` returns over `count` files, in order, done by threads.

    Threads serve: Pillow and hashlib release the interpreter lock while they work.

    Args:
        count: of the files.
        work: called with where a chunk begins and ends.
        what: stands before the bar that a terminal shows of long work.
    """
    starts = range(0, count, _CHUNK)
    cores: int = joblib.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        done = pool.map(lambda start: work(start, min(start + _CHUNK, count)), starts)
        sized = ((min(_CHUNK, count - start), result) for start, result in zip(starts, done, strict=True))
        try:
            yield from track(sized, count, what)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C or a fault need not wait for the rest
