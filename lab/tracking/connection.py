"""Opens the tracker at an address."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

from lab import tracking  # MLflow takes seconds to import: only when it is needed
from lab.errors import LabWarning
from lab.places import absolute_address, absolute_path
from lab.tracking.base import Reader, Tracker
from lab.tracking.journaled import JournaledTracker
from lab.tracking.lifecycle import missing_in_database
from lab.tracking.memory import MemoryTracker
from lab.tracking.reader import DatabaseReader
from lab.tracking.rebase import follow, own_folders
from lab.tracking.run_tables import RunTables

__all__ = ["connect", "missing_runs", "open_reader", "prepare"]


def connect(tracking_uri: str, artifact_dir: Path | None = None, journal_dir: Path | None = None) -> Tracker:
    """Return the tracker at `tracking_uri`; the store is not contacted yet.

    If a SQLite database was moved or copied since it was last opened, its artifacts are looked for where it is now,
    and a `LabWarning` says what happened.

    Args:
        tracking_uri: `http(s)://…`, `sqlite:///…`, another database that MLflow knows, or `memory`.
        artifact_dir: folder for the artifacts of new experiments. A server has its own, and ignores it.
        journal_dir: folder of a journal in front of the store: every write is kept there first, and no call
            waits for the store for long. Without one every write waits, and raises if the store is unreachable.
    """
    if tracking_uri == "memory":
        return MemoryTracker()
    tracking_uri = absolute_address(tracking_uri)
    artifact_dir = None if artifact_dir is None else absolute_path(artifact_dir)
    journal_dir = None if journal_dir is None else absolute_path(journal_dir)
    _follow(tracking_uri, artifact_dir, journal_dir)
    location = None if tracking_uri.startswith("http") or artifact_dir is None else str(artifact_dir)
    tracker = tracking.MlflowTracker(tracking_uri, location, own_folders(tracking_uri, artifact_dir))
    if journal_dir is None:
        return tracker
    return JournaledTracker(tracker, journal_dir, tracking.LoadMonitor)


def open_reader(tracking_uri: str, artifact_dir: Path | None = None) -> Reader:
    """Return what reads the runs at `tracking_uri`: their tables if they are at hand, without importing MLflow.

    The arguments, and what happens to a SQLite database that was moved, are those of `connect`.
    """
    tracking_uri = absolute_address(tracking_uri)
    artifact_dir = None if artifact_dir is None else absolute_path(artifact_dir)
    tables = RunTables.of(tracking_uri)
    if tables is None:
        return connect(tracking_uri, artifact_dir)
    _follow(tracking_uri, artifact_dir)
    return DatabaseReader(tracking_uri, tables)


def _follow(tracking_uri: str, artifact_dir: Path | None, journal_dir: Path | None = None) -> None:
    happened = follow(tracking_uri, artifact_dir, journal_dir)
    if happened:
        warnings.warn(happened, LabWarning, stacklevel=3)


def missing_runs(tracking_uri: str, run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that were deleted from the store at `tracking_uri`, or purged; creates no store.

    Raises:
        UnavailableError: it is unreachable.
        TrackingError: it refused.
    """
    if tracking_uri == "memory" or not run_ids:
        return set()
    if not tracking_uri.startswith("http"):
        return missing_in_database(tracking_uri, run_ids)
    return connect(tracking_uri).missing_runs(run_ids)


def prepare(tracking_uri: str) -> None:
    """Create the database at `tracking_uri`, or check that the server answers. To be called before workers start.

    Raises:
        UnavailableError: it is unreachable.
        TrackingError: the database is of another MLflow version or cannot be written, or the server rejects
            the credentials.
    """
    if tracking_uri == "memory":
        return
    tracking.MlflowTracker(absolute_address(tracking_uri)).prepare()
