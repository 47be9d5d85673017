"""From the address of a tracking store to its tracker."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

from lab import tracking  # MLflow takes seconds to import: only when it is needed
from lab.errors import LabWarning
from lab.places import absolute_address, absolute_path
from lab.tracking.base import Tracker
from lab.tracking.journaled import JournaledTracker
from lab.tracking.lifecycle import missing_in_database
from lab.tracking.memory import MemoryTracker
from lab.tracking.rebase import follow, own_folders

__all__ = ["connect", "missing_runs", "prepare"]


def connect(tracking_uri: str, artifact_dir: Path | None = None, journal_dir: Path | None = None) -> Tracker:
    """Return the tracker at `tracking_uri`; nothing is asked of it yet.

    A SQLite database that was moved or copied since it was last opened has its artifacts where it is now; what
    happened is a `LabWarning`.

    Args:
        tracking_uri: `http(s)://…`, `sqlite:///…`, another database that MLflow knows, or `memory`.
        artifact_dir: folder for the artifacts of new experiments. A server has its own, and ignores it.
        journal_dir: folder of a journal in front of the store: every write is kept there first, and no call
            waits for the store for long. Without one every write waits, and raises when the store is away.
    """
    if tracking_uri == "memory":
        return MemoryTracker()
    tracking_uri = absolute_address(tracking_uri)
    artifact_dir = None if artifact_dir is None else absolute_path(artifact_dir)
    journal_dir = None if journal_dir is None else absolute_path(journal_dir)
    happened = follow(tracking_uri, artifact_dir, journal_dir)
    if happened:
        warnings.warn(happened, LabWarning, stacklevel=2)
    location = None if tracking_uri.startswith("http") or artifact_dir is None else str(artifact_dir)
    tracker = tracking.MlflowTracker(tracking_uri, location, own_folders(tracking_uri, artifact_dir))
    if journal_dir is None:
        return tracker
    return JournaledTracker(tracker, journal_dir, tracking.LoadMonitor)


def missing_runs(tracking_uri: str, run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that the store at `tracking_uri` has no more, deleted or purged; makes no store.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: it refuses.
    """
    if tracking_uri == "memory" or not run_ids:
        return set()
    if not tracking_uri.startswith("http"):
        return missing_in_database(tracking_uri, run_ids)
    return connect(tracking_uri).missing_runs(run_ids)


def prepare(tracking_uri: str) -> None:
    """Create the database at `tracking_uri`, or see whether the server answers: before workers start.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: the database is of another MLflow version or cannot be written, or the server does not take
            these credentials.
    """
    if tracking_uri == "memory":
        return
    tracking.MlflowTracker(absolute_address(tracking_uri)).prepare()
