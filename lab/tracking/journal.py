"""What the writers of a run have logged and the store has not acknowledged: one folder on local disk for each run.

A journal holds operations in the order in which they were logged. A process that is killed loses none of them.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from lab.errors import ResourceError
from lab.tracking.base import Left, pending_key
from lab.tracking.writes import Metrics, Open, Write, read_write

__all__ = ["Lock", "Operation", "Refused", "RunJournal", "find", "journals", "left", "stores_left", "writing"]

W = TypeVar("W", bound=Write)

_WAITING, _DELIVERED, _REFUSED = range(3)
_MOST = 200  # operations of one request
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


@dataclass(frozen=True)
class Operation:
    """One write in a journal: its number there, and the file or folder that belongs to it."""

    id: int
    write: Write
    file: Path | None = None


@dataclass(frozen=True)
class Refused:
    """A run with writes that the store will not take: how many, the reason of the first, and the folder they are in."""

    run: str
    writes: int
    reason: str
    folder: Path


class Lock:
    """The right to deliver a journal; the kernel takes it back from a process that dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> Lock | None:
        """Return the lock of a journal's folder, None where another has it or the folder is gone."""
        import fcntl

        file = folder / "lock"
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == file.stat().st_ino:
                return cls(descriptor)
        except (BlockingIOError, FileNotFoundError):  # gone: whoever had it deleted it
            pass
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


class RunJournal:
    """The operations of one run; safe to use from several threads, and for one process at a time.

    Args:
        folder: of this run alone; made if it is not there.
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
            (folder / "files").mkdir(exist_ok=True)
            self._db = sqlite3.connect(
                folder / "journal.db", timeout=10, isolation_level=None, check_same_thread=False
            )
            # without waiting for the disk at every write: only a machine that crashes could lose something by it
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
        self.known_id: str | None = None  # the run's id in the store
        self._know(self.fact("run_id"))

    @classmethod
    def create(cls, folder: Path, **facts: str) -> RunJournal | None:
        """Return the journal in `folder` with the lock taken, made if it is not there; None where another has it."""
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
        """The name of the folder, which is the tag of the run that was first opened in it."""
        return self.folder.name

    def fact(self, name: str) -> str | None:
        """Return what was noted under `name`, None if nothing was."""
        with self._lock, writing(self.folder):
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Keep `value` under `name`, replacing an older one."""
        with self._lock, writing(self.folder):
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
        if name == "run_id":
            self._know(value)

    def add(self, write: Write) -> int:
        """Keep a write; return its number. An undelivered one that it replaces is dropped.

        Raises:
            ResourceError: the journal cannot be written.
        """
        with writing(self.folder):
            file = self._saved(write) if write.has_file else None
            if write.is_final:
                self._reach_the_disk()
            with self._lock, self._transaction():
                older = self._replaced(write.replaces) if write.replaces is not None else []
                self._delete(number for number, _ in older)
                added = self._db.execute(
                    "INSERT INTO operations (kind, payload, path, file) VALUES (?, ?, ?, ?)",
                    (write.kind, json.dumps(write.payload()), write.replaces, file),
                )
            self._discard([old for _, old in older])
        return int(added.lastrowid or 0)

    def _saved(self, write: Write) -> str:
        """Write the file of a write into a folder of its own; return its path in the journal's folder."""
        file = f"files/{uuid.uuid4().hex}/{write.file_name}"
        (self.folder / file).parent.mkdir()
        try:
            write.save(self.folder / file)
        except BaseException:
            self._discard([file])
            raise
        return file

    def take(self) -> list[Operation]:
        """Return the operations to deliver next: the oldest, and those after it that can go in one request with it."""
        with self._lock, writing(self.folder):
            rows = self._db.execute(
                "SELECT id, kind, payload, file FROM operations WHERE state = ? ORDER BY id LIMIT ?",
                (_WAITING, _MOST),
            ).fetchall()
            found = [self._operation(*row) for row in rows]
            same = takewhile(lambda each: type(each.write) is type(found[0].write), found)
            found = list(same) if found and found[0].write.is_mergeable else found[:1]
            self._sending = {each.id for each in found}
        return found

    def _operation(self, number: int, kind: str, payload: str, file: str | None) -> Operation:
        place = self.folder / file if file else None
        return Operation(number, read_write(kind, json.loads(payload), place), place)

    def done(self, operations: Sequence[Operation]) -> None:
        """Note that the store acknowledged `operations`."""
        kept = [operation.id for operation in operations if operation.write.is_kept]
        with self._lock, writing(self.folder):
            with self._transaction():
                self._set(kept, _DELIVERED, "")
                self._delete(operation.id for operation in operations if operation.id not in kept)
            self._sending = set()
        self._discard([operation.file for operation in operations])

    def refuse(self, operation: Operation, reason: str) -> None:
        """Note that the store will never take `operation`, and why."""
        with self._lock, writing(self.folder):
            self._set([operation.id], _REFUSED, reason)
            self._sending = set()

    def release(self) -> None:
        """Note that what was taken is not on its way any more."""
        with self._lock:
            self._sending = set()

    def retry_refused(self) -> None:
        """Let what was refused be tried again."""
        with self._lock, writing(self.folder):
            self._db.execute("UPDATE operations SET state = ? WHERE state = ?", (_WAITING, _REFUSED))

    def waiting(self, number: int | None = None) -> int:
        """Return how many operations wait to be delivered, or whether that with this number does."""
        with self._lock:
            return 0 if self._closed else self._count(_WAITING, number)

    def refused(self) -> Refused | None:
        """Return what the store refused of this run, None if nothing."""
        with self._lock, writing(self.folder):
            rows = self._db.execute(
                "SELECT kind, reason FROM operations WHERE state = ? ORDER BY id", (_REFUSED,)
            ).fetchall()
        if not rows:
            return None
        return Refused(
            self.fact("name") or self.fact("run_id") or self.key, len(rows), rows[0][1], self.folder
        )

    def is_blocked(self) -> bool:
        """Whether the store refused to open the run, so that nothing else of it can be delivered."""
        if self._closed or self.known_id is not None:
            return False
        with self._lock, writing(self.folder):
            row = self._db.execute(
                "SELECT 1 FROM operations WHERE state = ? AND kind = ?", (_REFUSED, Open.kind)
            ).fetchone()
        return row is not None

    def delivered(self, kind: type[W]) -> list[W]:
        """Return the delivered writes of a type that is kept."""
        with self._lock, writing(self.folder):
            rows = self._db.execute(
                "SELECT payload FROM operations WHERE state = ? AND kind = ? ORDER BY id",
                (_DELIVERED, kind.kind),
            ).fetchall()
        return [kind.read(json.loads(payload)) for (payload,) in rows]

    def history(self, metric: str) -> dict[int, float]:
        """Return what was logged of `metric` by step, in order of the steps."""
        with self._lock, writing(self.folder):
            rows = self._db.execute(
                "SELECT payload FROM operations WHERE kind = ? ORDER BY id", (Metrics.kind,)
            ).fetchall()
        found = [each for (payload,) in rows for each in Metrics.read(json.loads(payload)).metrics]
        return dict(sorted((each.step, each.value) for each in found if each.name == metric))

    def artifact(self, path: str) -> tuple[bool, Path | None]:
        """Return whether something about the artifact `path` waits, and its file (None: it is to be deleted)."""
        with self._lock, writing(self.folder):
            row = self._db.execute(
                "SELECT file FROM operations WHERE path = ? AND state = ? ORDER BY id DESC", (path, _WAITING)
            ).fetchone()
        return row is not None, self.folder / row[0] if row and row[0] else None

    def drop(self) -> None:
        """Forget all operations."""
        with self._lock, writing(self.folder):
            self._db.execute("DELETE FROM operations")

    def close(self) -> None:
        """Let others have it; a folder in which nothing is left is deleted."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(ResourceError, sqlite3.Error):
                empty = not self._count(_WAITING, None) and self.refused() is None
                self._db.close()
                if empty:
                    shutil.rmtree(self.folder, ignore_errors=True)
            self._file_lock.release()

    def _know(self, run_id: str | None) -> None:
        self.known_id = None if run_id is None or pending_key(run_id) is not None else run_id

    def _count(self, state: int, number: int | None) -> int:
        chosen = "" if number is None else f" AND id = {int(number)}"
        with writing(self.folder):
            row = self._db.execute(f"SELECT COUNT(*) FROM operations WHERE state = ?{chosen}", (state,))
            return int(row.fetchone()[0])

    def _replaced(self, path: str) -> list[tuple[int, str]]:
        rows = self._db.execute(
            "SELECT id, file FROM operations WHERE path = ? AND state = ?", (path, _WAITING)
        ).fetchall()
        return [(number, file) for number, file in rows if number not in self._sending]

    def _delete(self, numbers: Iterator[int]) -> None:
        self._db.executemany("DELETE FROM operations WHERE id = ?", [(number,) for number in numbers])

    def _set(self, numbers: Sequence[int], state: int, reason: str) -> None:
        self._db.executemany(
            "UPDATE operations SET state = ?, reason = ? WHERE id = ?",
            [(state, reason, number) for number in numbers],
        )

    def _discard(self, files: Sequence[str | Path | None]) -> None:
        for file in files:
            if file is not None:
                shutil.rmtree((self.folder / file).parent, ignore_errors=True)

    def _reach_the_disk(self) -> None:
        """See to it that a finished trial outlives a crash of the machine: nobody would train it again."""
        for folder, _, names in os.walk(self.folder / "files"):
            for name in names:
                with suppress(FileNotFoundError), Path(folder, name).open("rb") as file:  # delivered just now
                    os.fsync(file.fileno())
        with self._lock:
            self._db.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk is to blame for into a `ResourceError` that says what to do."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ResourceError(
            f"The journal in {folder} cannot be written ({reason}), so what the trial logs could be lost: it was"
            " stopped. Free space on that disk, or make the folder writable, and begin again"
        ) from None


def journals(folder: Path) -> list[Path]:
    """Return the folders of all runs that have a journal in `folder`, oldest first."""
    found = []
    for file in folder.glob("*/journal.db"):
        with suppress(OSError):  # delivered just now
            found.append(((file.parent / "lock").stat().st_mtime, file.parent))
    return [path for _, path in sorted(found)]


def find(folder: Path, run_id: str, store: str) -> Path | None:
    """Return the folder of the run `run_id` of a store, None where it has no journal."""
    for path in journals(folder):
        facts = _facts(path)
        if facts.get("run_id") == run_id and facts.get("store") == store:
            return path
    return None


def left(folder: Path, store: str, *, seconds: float = 0.0) -> Left:
    """Return what is undelivered of the runs of a store, if it was logged at least so many `seconds` ago."""
    old = f"SELECT state, COUNT(*) FROM operations WHERE logged <= {time.time() - seconds} GROUP BY state"
    runs = writes = refused = 0
    for path in journals(folder):
        if _facts(path).get("store") != store:
            continue
        counts = dict(_read(path, old))
        here = counts.get(_WAITING, 0) + counts.get(_REFUSED, 0)
        runs, writes, refused = runs + bool(here), writes + here, refused + counts.get(_REFUSED, 0)
    return Left(writes, runs, refused)


def stores_left(folder: Path) -> list[str]:
    """Return the addresses of all stores that something in `folder` is for."""
    return sorted({facts["store"] for path in journals(folder) if "store" in (facts := _facts(path))})


def _facts(path: Path) -> dict[str, str]:
    return dict(_read(path, "SELECT name, value FROM facts"))


def _read(path: Path, query: str) -> list[Any]:
    """Return the rows of a query of another's journal, none where it has just been deleted."""
    try:
        with closing(
            sqlite3.connect(f"{(path / 'journal.db').resolve().as_uri()}?mode=ro", 5, uri=True)
        ) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []
