"""The studies of a database as a worker sees them: which of them have work that may be begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from lab.errors import StudyError
from lab.study.queue import TrialQueue
from lab.study.storage import display_url, open_storage

__all__ = ["Studies"]


class Studies:
    """The studies in the database at `url`: those called `names`, or all where none is named.

    Whatever the database is to blame for is a `StudyError` of these methods; the next call may pass. They wait for
    one that is away, unless `should_stop`.
    """

    def __init__(
        self, url: str, names: Sequence[str] = (), should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._url = url
        self._names = names
        self._storage = open_storage(url, should_stop=should_stop)
        self._queues: dict[str, TrialQueue] = {}

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise what the database is to blame for as a `StudyError`."""
        try:
            yield
        except (SQLAlchemyError, OptunaError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StudyError(f"--storage {display_url(self._url)}: {reason}") from error

    def queues(self) -> list[TrialQueue]:
        """Return the trials of each study."""
        with self.translated():
            everything = self._everything()
        return [queue for name, queue in everything.items() if not self._names or name in self._names]

    def ready(self) -> list[TrialQueue]:
        """Return those studies that have waiting trials, are not cancelled, and whose needed studies are done."""
        with self.translated():
            return [
                queue
                for queue in self.queues()
                if queue.waits() and not queue.is_cancelled() and not self._missing(queue)
            ]

    def _everything(self) -> dict[str, TrialQueue]:
        names = sorted(optuna.get_all_study_names(self._storage))
        self._queues = {name: self._queues.get(name) or TrialQueue(self._storage, name) for name in names}
        return self._queues

    def _missing(self, queue: TrialQueue) -> list[str]:
        """Return the names of the studies that must be done before `queue`, and are not."""
        needed = {name: self._queues.get(name) for name in queue.attribute("needs", [])}
        return [name for name, other in needed.items() if other is None or not other.is_over()]
