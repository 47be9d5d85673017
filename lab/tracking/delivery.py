"""Delivers what earlier processes have left in their journals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import ResourceError, TrackingError
from lab.tracking.base import Left, Tracker, UnavailableError, public_uri
from lab.tracking.courier import Courier
from lab.tracking.journal import Refused, RunJournal, writing
from lab.tracking.journals import journals, left, stores_left
from lab.tracking.lock import Lock

__all__ = ["Delivered", "deliver"]


@dataclass
class Delivered:
    """What one pass over all journals of a store delivered, and what is left."""

    writes: int = 0
    runs: int = 0
    ended: list[str] = field(default_factory=list)  # names of runs that their process had died without ending
    away: str = ""  # why the rest cannot be delivered now
    left: Left = field(default_factory=Left)
    refused: list[Refused] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # other stores with undelivered writes
    foreign: int = 0  # journals of other users, in a folder that a group shares

    @property
    def delivered(self) -> str:
        """What was delivered, in words."""
        return str(Left(self.writes, self.runs))


def deliver(tracker: Tracker, folder: Path, *, retry_refused: bool = False) -> Delivered:
    """Deliver what is left in the journals of a store, except those that a living process is delivering.

    A run that belongs to no study, and whose process has died, is ended as KILLED.

    Args:
        tracker: the store.
        folder: of all journals.
        retry_refused: whether to try again what was refused before.

    Raises:
        ResourceError: a journal cannot be written.
    """
    result = Delivered()
    for path in journals(folder):
        with writing(path):
            try:
                lock = Lock.take(path)
            except PermissionError:
                result.foreign += 1
                continue
        if lock is None:
            continue
        try:
            journal = RunJournal(path, lock)
        except ResourceError as error:  # damaged; the others are delivered nevertheless
            lock.release()
            result.refused.append(Refused(path.name, 0, str(error), path))
            continue
        try:
            if public_uri(journal.fact("store") or "") == tracker.uri:
                _deliver_one(journal, tracker, result, retry_refused)
        finally:
            journal.close()
        if result.away:
            break
    result.left = left(folder, tracker.uri)
    result.others = [store for store in stores_left(folder) if store != tracker.uri]
    return result


def _deliver_one(journal: RunJournal, tracker: Tracker, result: Delivered, retry_refused: bool) -> None:
    if retry_refused:
        journal.retry_refused()
    before = journal.waiting()
    try:
        courier = Courier(journal, tracker)
        courier.deliver()
        if courier.end_left():
            result.ended.append(journal.name)
    except UnavailableError as error:
        result.away = str(error)
    except TrackingError as error:  # whether the run has ended
        result.refused.append(Refused(journal.name, 0, str(error), journal.folder))
    refused = journal.refused()
    if refused is not None:
        result.refused.append(refused)
    delivered = before - journal.waiting() - (refused.writes if refused is not None and retry_refused else 0)
    result.writes += delivered
    result.runs += delivered > 0
