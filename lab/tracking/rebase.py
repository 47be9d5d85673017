"""Lets artifacts follow their database: MLflow keeps the absolute path of each run's artifacts.

A moved project finds its files again; a copied one uses its own, and leaves those of the original alone.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import lock_descriptor

from lab.places import Arrival, absolute_address, arrival, has_mark, mark, sqlite_file
from lab.tracking.base import Place

__all__ = ["follow", "local_path", "locked_database", "own_folders", "place_of", "shortened"]

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_SAMPLE = "SELECT run_uuid, artifact_uri FROM runs ORDER BY start_time DESC LIMIT 200"
_EXPERIMENTS = "experiments.json"
_BUSY_SECONDS = 60.0
_MOST_BYTES = 255  # of a name, in most file systems


def follow(tracking_uri: str, artifact_dir: Path | None = None, journal_dir: Path | None = None) -> str:
    """Let artifacts and journals follow the database at `tracking_uri` to its present place.

    Nothing happens if it was neither moved nor copied since it was last opened. A database that cannot be written is
    no error here: opening it will report that. Any number of processes may do this at once.

    Args:
        tracking_uri: address of the store; only SQLite databases can have been moved.
        artifact_dir: folder of its artifacts.
        journal_dir: folder of the journals in front of it.

    Returns:
        A sentence for the user about what happened, empty if nothing did.
    """
    database = sqlite_file(tracking_uri)
    if database is None or not database.exists():
        return ""
    if journal_dir is not None:
        _rebase_journals(journal_dir, absolute_address)  # earlier versions noted relative addresses
    if has_mark(database) and arrival(database) is None:
        return ""
    with suppress(OSError, sqlite3.Error), locked_database(database):
        came = arrival(database) if has_mark(database) else _inferred(database)
        if came is not None:
            return _settled(came, tracking_uri, artifact_dir, journal_dir)
        mark(database)
    return ""


def _settled(came: Arrival, tracking_uri: str, artifact_dir: Path | None, journal_dir: Path | None) -> str:
    homes = [] if artifact_dir is None else [artifact_dir.resolve()]
    places = _rebase(came, homes)
    if journal_dir is not None:
        _rebase_journals(journal_dir, lambda store: tracking_uri if _is_at(came.old, store) else store)
    mark(came.new, copied=came.copied)
    if not places:
        return ""
    if came.copied:
        return (
            f"{came.home} is a copy of {came.origin}: from now on its runs keep their files here, not there"
        )
    return f"{came.origin} is now {came.home}: from now on the files of its runs are looked for here"


def _is_at(database: Path, address: str) -> bool:
    file = sqlite_file(address)
    return file is not None and file.resolve() == database


@contextmanager
def locked_database(database: Path) -> Iterator[None]:
    """Let one process at a time create `database` or change the paths in it."""
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        lock_descriptor(lock.fileno())
        yield


def local_path(uri: str) -> Path | None:
    """Return the folder that `uri` names on this machine, None if it is elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme and uri.startswith("/") else None


def shortened(folder: str) -> str:
    """Return the name of a folder; of one that is too long for a file system, its beginning and a digest of it."""
    encoded = folder.encode()
    if len(encoded) <= _MOST_BYTES:
        return folder
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: _MOST_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"


def own_folders(tracking_uri: str, artifact_dir: Path | None) -> list[Path]:
    """Return the folders whose files are a store's own: the given one, and those that MLflow itself creates."""
    database = sqlite_file(tracking_uri)
    default = [] if database is None else [database.parent / "mlruns", Path.cwd() / "mlruns"]
    return default if artifact_dir is None else [artifact_dir, *default]


def place_of(uri: str, own: Sequence[Path]) -> Place:
    """Return what is known of artifacts at `uri`; those in the folders `own` are the store's own."""
    path = local_path(uri)
    if path is None:
        return Place(uri)
    # resolved: no link may lead out of them
    mine = any(path.resolve().is_relative_to(folder.resolve()) for folder in own)
    return Place(str(path), path.exists(), mine)


def _rebase(came: Arrival, homes: list[Path]) -> int:
    """Rewrite the paths of experiments, runs and models in one transaction; return how many changed."""
    changed = 0
    with closing(sqlite3.connect(came.new, _BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, column in _COLUMNS:
            if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                continue  # of another version of MLflow
            known = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/%'")
            for (old,) in known.fetchall():
                new = _moved(old, came, homes)
                if new != old:
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
                    changed += 1
        connection.execute("COMMIT")
    return changed


def _moved(uri: str, came: Arrival, homes: list[Path]) -> str:
    path = local_path(uri)
    now = None if path is None else came.follow(path, *homes)
    if now is None:
        return uri
    return now.as_uri() if uri.startswith("file:") else str(now)


def _inferred(database: Path) -> Arrival | None:
    """Return where a database without a mark came from, inferred from runs whose files are only here."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", 5.0, uri=True)) as connection:
        runs = connection.execute(_SAMPLE).fetchall()
    folder = database.resolve().parent
    for run_id, uri in runs:
        path = local_path(uri or "")
        if path is None or run_id not in path.parts:
            continue
        for home in (folder.parent, folder):
            found = _same_end(path, path.parts.index(run_id), home)
            if found is not None:
                return _from(path, found, home, database.resolve())
    return None


def _same_end(path: Path, most: int, home: Path) -> Path | None:
    """Return the file below `home` with the end of `path`, without at most its first `most` names."""
    for left_out in range(1, most + 1):
        found = home.joinpath(*path.parts[left_out:])
        if found.exists():
            return found
    return None


def _from(path: Path, found: Path, home: Path, database: Path) -> Arrival | None:
    if path.exists() and path.samefile(found):
        return None
    origin = Path(*path.parts[: len(path.parts) - len(found.relative_to(home).parts)])
    old = origin / database.relative_to(home)
    return Arrival(old, database, copied=path.exists())


def _rebase_journals(folder: Path, now: Callable[[str], str]) -> None:
    """Change the store of each journal in `folder` to what `now` returns for its address."""
    for file in folder.glob("*/journal.db"):
        address = f"{file.resolve().as_uri()}?mode=rw"  # one that was just delivered is not created again
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, 5.0, uri=True)) as journal, journal:
            for (store,) in journal.execute("SELECT value FROM facts WHERE name = 'store'").fetchall():
                if now(store) != store:
                    journal.execute("UPDATE facts SET value = ? WHERE name = 'store'", (now(store),))
    seen = folder / _EXPERIMENTS
    with suppress(OSError, ValueError, AttributeError):
        before = json.loads(seen.read_text(encoding="utf-8"))
        after = {now(store): known for store, known in before.items()}
        if after != before:
            seen.write_text(json.dumps(after), encoding="utf-8")
