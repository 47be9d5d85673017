"""Stores for a test's study, its runs and its checkpoints."""

from __future__ import annotations

from pathlib import Path

from lab.engines import Stores

__all__ = ["stores_in"]


def stores_in(folder: Path) -> Stores:
    """Return stores in `folder`, with SQLite for both databases."""
    return Stores(
        storage=f"sqlite:///{folder / 'optuna.db'}",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifact_dir=folder / "artifacts",
        checkpoint_dir=folder / "checkpoints",
        journal_dir=folder / "journal",
    )
