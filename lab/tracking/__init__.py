"""The only room that imports mlflow: where trials leave their params, metrics, artifacts and models."""

from __future__ import annotations

from pathlib import Path

from lab.tracking.base import Run, RunStatus, Tracker, UnavailableError
from lab.tracking.memory import MemoryTracker
from lab.tracking.views import study_page

__all__ = [
    "MemoryTracker",
    "Run",
    "RunStatus",
    "Tracker",
    "UnavailableError",
    "connect",
    "prepare",
    "study_page",
]


def connect(tracking_uri: str, artifact_dir: Path | None = None) -> Tracker:
    """Return the tracker at `tracking_uri`; nothing is asked of it yet.

    Args:
        tracking_uri: `http(s)://…`, `sqlite:///…`, another database that MLflow knows, or `memory`.
        artifact_dir: folder for the artifacts of new experiments. A server has its own, and ignores it.
    """
    if tracking_uri == "memory":
        return MemoryTracker()
    from lab.tracking.mlflow import MlflowTracker  # seconds of imports, which `lab --help` must not wait for

    served = tracking_uri.startswith("http")
    return MlflowTracker(tracking_uri, None if served or artifact_dir is None else str(artifact_dir))


def prepare(tracking_uri: str) -> None:
    """Create the database at `tracking_uri`, or see whether the server answers: before workers start.

    Raises:
        UnavailableError: it cannot be reached.
        TrackingError: the database is of another MLflow version, or cannot be written.
    """
    if tracking_uri == "memory":
        return
    from lab.tracking.mlflow import MlflowTracker

    MlflowTracker(tracking_uri).prepare()
