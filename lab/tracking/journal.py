"""Writes that the store has not acknowledged: one folder on local disk for each run.

A journal keeps them in the order in which they were made. A process that is killed loses none.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

from lab.errors import ResourceError
from lab.tracking.journal_files import JournalFiles, delete_journal
from lab.tracking.lock import Lock
from lab.tracking.pending import pending_key
from lab.tracking.writes import Metrics, Open, Write, read_write

__all__ = ["OWNER", "Operation", "Refused", "RunJournal", "State", "try_out", "writing"]

W = TypeVar("W", bound=Write)

#: Fact: the process that must still end the run. Empty once it has, and if a study's workers may go on with the run.
OWNER: Final = "owner"
_MOST = 200  # writes in one request
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    path TEXT,
    file TEXT,
    logged INTEGER NOT NULL DEFAULT (strftime('%s', 'now')),
    state INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
);
"""


class State(IntEnum):
    """The state of a write in a journal."""

    WAITING = 0
    DELIVERED = 1
    REFUSED = 2


@dataclass(frozen=True)
class Operation:
    """One write in a journal: its number there, and the file or folder that belongs to it."""

    id: int
    write: Write
    file: Path | None = None


@dataclass(frozen=True)
class Refused:
    """A run with writes that the store refuses: how many, why the first was refused, and the folder they are in."""

    run: str
    writes: int
    reason: str
    folder: Path


class RunJournal:
    """The writes to one run; for one process at a time, which may use it from several threads.

    Args:
        folder: of this run alone; created if it does not exist.
        lock: of that folder.

    Raises:
        ResourceError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path, lock: Lock) -> None:
        self.folder = folder
        self._file_lock = lock
        self._lock = threading.RLock()
        self._sending: set[int] = set()
        self._closed = False
        with writing(folder):
            self._files = JournalFiles(folder)
            self._db = sqlite3.connect(
                folder / "journal.db", timeout=10, isolation_level=None, check_same_thread=False
            )
            # without waiting for the disk at every write: that could only lose data if the machine crashes
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
        self.known_id: str | None = None  # the run's id in the store
        self._know(self.fact("run_id"))

    @classmethod
    def create(cls, folder: Path, **facts: str) -> RunJournal | None:
        """Return the journal in `folder`, locked, created if it does not exist; None if another process has it."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(folder)
        if lock is None:
            return None
        try:
            journal = cls(folder, lock)
            for name, value in facts.items():
                if journal.fact(name) is None:
                    journal.note(name, value)
        except BaseException:
            lock.release()
            raise
        return journal

    @property
    def key(self) -> str:
        """The name of the folder; a run that was first opened in it has it as a tag."""
        return self.folder.name

    @property
    def name(self) -> str:
        """What the run is called: its name or, if the store makes that up, its id."""
        return self.fact("name") or self.fact("run_id") or self.key

    def fact(self, name: str) -> str | None:
        """Return the value noted under `name`, None if there is none."""
        return next(
            (str(value) for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", name)), None
        )

    def note(self, name: str, value: str) -> None:
        """Keep `value` under `name`, replacing an older one."""
        self._rows("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)
        if name == "run_id":
            self._know(value)

    def add(self, write: Write) -> int:
        """Keep a write; return its number. Undelivered and refused ones that it replaces are dropped.

        Raises:
            ResourceError: the journal cannot be written.
        """
        with writing(self.folder):
            file = self._files.save(write) if write.has_file else None
            if (
                write.is_final
            ):  # a finished trial must survive a crash of the machine: it is not trained again
                self._files.sync()
            with self._lock, self._transaction(durable=write.is_final):
                older = self._replaced(write.replaces) if write.replaces is not None else []
                self._delete(number for number, _ in older)
                added = self._db.execute(
                    "INSERT INTO operations (kind, payload, path, file) VALUES (?, ?, ?, ?)",
                    (write.kind, json.dumps(write.payload()), write.replaces, file),
                )
            self._files.discard([old for _, old in older])
        return int(added.lastrowid or 0)

    def take(self) -> list[Operation]:
        """Return the writes to deliver next: the oldest, and those after it that fit into the same request."""
        with self._lock, writing(self.folder):
            query = "SELECT id, kind, payload, file FROM operations WHERE state = ? ORDER BY id LIMIT ?"
            rows = self._rows(query, State.WAITING, _MOST)
            found = [self._operation(*row) for row in rows]
            found = list(takewhile(lambda each: each.write.is_mergeable, found)) or found[:1]
            self._sending = {each.id for each in found}
        return found

    def _operation(self, number: int, kind: str, payload: str, file: str | None) -> Operation:
        place = self._files.path(file)
        return Operation(number, read_write(kind, json.loads(payload), place), place)

    def done(self, operations: Sequence[Operation]) -> None:
        """Note that the store has acknowledged `operations`."""
        kept = [operation.id for operation in operations if operation.write.is_kept]
        with self._lock, writing(self.folder):
            with self._transaction():
                self._set(kept, State.DELIVERED, "")
                self._delete(operation.id for operation in operations if operation.id not in kept)
            self._sending = set()
        self._files.discard([operation.file for operation in operations])

    def refuse(self, operation: Operation, reason: str) -> None:
        """Note that the store refused `operation` for good, and why."""
        with self._lock, writing(self.folder):
            self._set([operation.id], State.REFUSED, reason)
            self._sending = set()

    def release(self) -> None:
        """Note that the writes last taken are no longer being delivered."""
        with self._lock:
            self._sending = set()

    def retry_refused(self) -> None:
        """Have refused writes delivered again."""
        self._rows("UPDATE operations SET state = ? WHERE state = ?", State.WAITING, State.REFUSED)

    def waiting(self, number: int | None = None) -> int:
        """Return how many writes wait for delivery; with a `number`, whether (1 or 0) that write does."""
        with self._lock:
            return 0 if self._closed else self._count(State.WAITING, number)

    def refused(self) -> Refused | None:
        """Return what the store refused of this run, None if it refused nothing."""
        reasons = self._rows("SELECT reason FROM operations WHERE state = ? ORDER BY id", State.REFUSED)
        if not reasons:
            return None
        return Refused(self.name, len(reasons), reasons[0][0], self.folder)

    def is_blocked(self) -> bool:
        """Whether the store refused to open the run, so that nothing else can be delivered."""
        refused = "SELECT 1 FROM operations WHERE state = ? AND kind = ?"
        with self._lock:
            if self._closed or self.known_id is not None:
                return False
            return bool(self._rows(refused, State.REFUSED, Open.kind))

    def delivered(self, kind: type[W]) -> list[W]:
        """Return the delivered writes of a type that is kept after delivery."""
        query = "SELECT payload FROM operations WHERE state = ? AND kind = ? ORDER BY id"
        rows = self._rows(query, State.DELIVERED, kind.kind)
        return [kind.read(json.loads(payload)) for (payload,) in rows]

    def last_logged(self) -> int | None:
        """Return when the latest write that is still here was made, in milliseconds since 1970; None without one."""
        seconds = self._rows("SELECT MAX(logged) FROM operations")[0][0]
        return None if seconds is None else 1000 * int(seconds)

    def history(self, metric: str) -> dict[int, float]:
        """Return the values of `metric` by step, in order of the steps."""
        rows = self._rows("SELECT payload FROM operations WHERE kind = ? ORDER BY id", Metrics.kind)
        found = [each for (payload,) in rows for each in Metrics.read(json.loads(payload)).metrics]
        return dict(sorted((each.step, each.value) for each in found if each.name == metric))

    def artifact(self, path: str) -> tuple[bool, Path | None]:
        """Return whether a write to the artifact `path` waits, and its file (None if it is to be deleted)."""
        query = "SELECT file FROM operations WHERE path = ? AND state = ? ORDER BY id DESC"
        rows = self._rows(query, path, State.WAITING)
        return bool(rows), self._files.path(rows[0][0] if rows else None)

    def drop(self) -> None:
        """Delete all writes; there is no run that must be ended."""
        self._rows("DELETE FROM operations")
        self.note(OWNER, "")

    def close(self) -> None:
        """Release the journal; it is deleted with its folder if it is empty and nobody must still end its run."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(ResourceError, sqlite3.Error):
                empty = not (self._count(State.WAITING, None) or self.refused() or self.fact(OWNER))
                self._db.close()
                if empty:
                    delete_journal(self.folder)
            self._file_lock.release()

    def _know(self, run_id: str | None) -> None:
        self.known_id = None if run_id is None or pending_key(run_id) is not None else run_id

    def _count(self, state: int, number: int | None) -> int:
        chosen = "" if number is None else f" AND id = {int(number)}"
        return int(self._rows(f"SELECT COUNT(*) FROM operations WHERE state = ?{chosen}", state)[0][0])

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock, writing(self.folder):
            return self._db.execute(query, values).fetchall()

    def _replaced(self, path: str) -> list[tuple[int, str]]:
        query = "SELECT id, file FROM operations WHERE path = ? AND state IN (?, ?)"
        rows = self._rows(query, path, State.WAITING, State.REFUSED)
        return [(number, file) for number, file in rows if number not in self._sending]

    def _delete(self, numbers: Iterator[int]) -> None:
        self._db.executemany("DELETE FROM operations WHERE id = ?", [(number,) for number in numbers])

    def _set(self, numbers: Sequence[int], state: int, reason: str) -> None:
        self._db.executemany(
            "UPDATE operations SET state = ?, reason = ? WHERE id = ?",
            [(state, reason, number) for number in numbers],
        )

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        if durable:  # as is everything that follows
            self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


def try_out(folder: Path) -> None:
    """Keep a journal in `folder` for a moment.

    Raises:
        ResourceError: that is impossible: the folder cannot be written, or its file system has no locks.
    """
    journal = RunJournal.create(folder / f"tried-{uuid.uuid4().hex}")
    if journal is not None:
        journal.close()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn disk failures into a `ResourceError` that says what to do."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ResourceError(
            f"The journal in {folder} cannot be written ({reason}), so the trial was stopped before anything it logs"
            " is lost. Free space on that disk or make the folder writable, then start again"
        ) from None
