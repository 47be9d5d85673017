"""Reads a folder of journals: which stores they are for, and what is left in them."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from lab.tracking.base import Left, public_uri
from lab.tracking.journal import State
from lab.tracking.journal_files import READING
from lab.tracking.lock import is_held_elsewhere

__all__ = ["find", "journals", "left", "stores_left"]


def journals(folder: Path) -> list[Path]:
    """Return the folders of all journals in `folder` that no other machine is using, oldest first.

    SQLite's files are those of one machine at a time: even reading what another one writes might damage it.
    """
    found = []
    for file in folder.glob("*/journal.db"):
        if is_held_elsewhere(file.parent):
            continue
        with suppress(OSError):  # just delivered
            found.append(((file.parent / "lock").stat().st_mtime, file.parent))
    return [path for _, path in sorted(found)]


def find(folder: Path, run_id: str, store: str) -> Path | None:
    """Return the journal's folder of the run `run_id` of a store, None if it has no journal."""
    for path in journals(folder):
        facts = _facts(path)
        if facts.get("run_id") == run_id and facts.get("store") == store:
            return path
    return None


def left(folder: Path, store: str, *, seconds: float = 0.0) -> Left:
    """Return how much of a store's runs is undelivered, counting writes that are at least `seconds` old."""
    old = f"SELECT state, COUNT(*) FROM operations WHERE logged <= {time.time() - seconds} GROUP BY state"
    runs = writes = refused = 0
    for path in journals(folder):
        if _facts(path).get("store") != store:
            continue
        counts = dict(_read(path, old))
        here = counts.get(State.WAITING, 0) + counts.get(State.REFUSED, 0)
        runs, writes, refused = runs + bool(here), writes + here, refused + counts.get(State.REFUSED, 0)
    return Left(writes, runs, refused)


def stores_left(folder: Path) -> list[str]:
    """Return the addresses of all stores that have journals in `folder`."""
    return sorted({facts["store"] for path in journals(folder) if "store" in (facts := _facts(path))})


def _facts(path: Path) -> dict[str, str]:
    facts = dict(_read(path, "SELECT name, value FROM facts"))
    if "store" in facts:
        facts["store"] = public_uri(facts["store"])  # earlier versions noted the password in its query
    return facts


def _read(path: Path, query: str) -> list[Any]:
    """Return the rows of a query on another process's journal, none if it has just been deleted."""
    address = f"{(path / 'journal.db').resolve().as_uri()}?mode=ro"
    try:
        with READING, closing(sqlite3.connect(address, 5, uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []
