"""Work on many files, done by threads in chunks."""

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
    """Yield the results of `work(start, stop)` over `count` files, in order, computed by threads.

    Threads are enough: Pillow and hashlib release the interpreter lock while they work.

    Args:
        count: number of files.
        work: called with the start and the end of a chunk.
        what: label of the progress bar that a terminal shows if this takes long.
    """
    starts = range(0, count, _CHUNK)
    cores: int = joblib.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        done = pool.map(lambda start: work(start, min(start + _CHUNK, count)), starts)
        sized = ((min(_CHUNK, count - start), result) for start, result in zip(starts, done, strict=True))
        try:
            yield from track(sized, count, what)
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error, do not wait for the rest
