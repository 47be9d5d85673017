"""What an engine says about its workers, noted in their study: `lab status` and `lab watch` show it anywhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lab.errors import LabError
from lab.study import StudyKey, TrialQueue

__all__ = ["EngineNotes", "telling"]

_CHANGE_SECONDS = 10.0  # between notes of what has changed
_RENEWAL_SECONDS = 60.0  # between notes of the same; one that is not renewed is not believed


@dataclass
class _Told:
    queue: TrialQueue
    lines: list[str]
    at: float


class EngineNotes:
    """Notes what this process's engine says: at most every ten seconds if it changes, and once a minute if not."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}  # by study

    def tell(self, said: Iterable[tuple[TrialQueue, Sequence[str]]]) -> None:
        """Note what there is to say of each study, if it is time to; take back what was said of any other."""
        lines = {queue.name: (queue, list(lines)) for queue, lines in said}
        for name in self._told.keys() - lines.keys():
            lines[name] = (self._told[name].queue, [])
        for name, (queue, new) in lines.items():
            if self._is_due(name, new):
                self._note(queue, new)

    def clear(self) -> None:
        """Take back what was noted."""
        for told in list(self._told.values()):
            if told.lines:
                self._note(told.queue, [])

    def _is_due(self, study: str, new: list[str]) -> bool:
        told = self._told.get(study)
        if told is None:
            return bool(new)
        age = time.monotonic() - told.at
        return age >= _CHANGE_SECONDS if told.lines != new else bool(new) and age >= _RENEWAL_SECONDS

    def _note(self, queue: TrialQueue, lines: list[str]) -> None:
        self._told[queue.name] = _Told(queue, lines, time.monotonic())
        with suppress(LabError):  # the database is away: it is only a note
            said = {"lines": lines, "host": socket.gethostname(), "at": queue.storage.now()}
            queue.note(StudyKey.ENGINE, said if lines else None)


@contextmanager
def telling() -> Iterator[EngineNotes]:
    """Yield what notes, and take back at the end of the block what it has noted."""
    notes = EngineNotes()
    try:
        yield notes
    finally:
        notes.clear()
