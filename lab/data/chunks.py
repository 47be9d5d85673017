"""Work on many files, done by threads in chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import joblib

from lab.data.progress import track

__all__ = ["by_chunks"]

T = TypeVar("T")

_CHUNK = 256  # files per task


def by_chunks(count: int, work: Callable[[int, int], T], what: str, *, size: int = _CHUNK) -> Iterator[T]:
    """Yield the results of `work(start, stop)` over `count` files, in order, computed by threads.

    Threads are enough: Pillow and hashlib release the interpreter lock while they work. They are at most a few chunks
    ahead of what was yielded.

    Args:
        count: number of files.
        work: called with the start and the end of a chunk.
        what: label of the progress bar that a terminal shows if this takes long.
        size: files per chunk.
    """
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    cores: int = joblib.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        try:
            yield from track(_ahead(pool, bounds, work, 2 * cores), count, what)
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error, do not wait for the rest


def _ahead(
    pool: Executor, bounds: Iterable[tuple[int, int]], work: Callable[[int, int], T], ahead: int
) -> Iterator[tuple[int, T]]:
    """Yield the size of each chunk and its result, in order, while the pool works on the next ones."""
    left = iter(bounds)
    waiting: deque[tuple[int, Future[T]]] = deque()
    while True:
        for start, stop in islice(left, ahead - len(waiting)):
            waiting.append((stop - start, pool.submit(work, start, stop)))
        if not waiting:
            return
        size, done = waiting.popleft()
        yield size, done.result()
