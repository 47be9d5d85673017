"""How many trials wait that a worker could start now: what decides whether more workers are of use."""

from __future__ import annotations

from collections.abc import Callable

from lab.study.addresses import database_exists
from lab.study.studies import Studies

__all__ = ["waiting_trials"]


def waiting_trials(
    url: str, name: str | None = None, on_broken: Callable[[str, Exception], None] = lambda name, error: None
) -> int:
    """Return how many trials of lab's studies in a database a worker could claim now.

    A trial could not be claimed if its study is cancelled, exhausted or out of time, or if a study that it needs is not
    done. Trials whose worker has died do not wait, until a worker has requeued them.

    Args:
        url: of the database; if there is none yet, nothing waits.
        name: of the only study to count; all if None.
        on_broken: called with the name of a study that cannot be read, and the error.

    Raises:
        StudyError: the database cannot be read.
    """
    if not database_exists(url):
        return 0
    ready = Studies(url, [] if name is None else [name], on_broken=on_broken).ready()
    return sum(queue.waiting() for queue in ready)
