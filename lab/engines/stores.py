"""Where everything is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stores"]


@dataclass(frozen=True)
class Stores:
    """Where studies, runs, artifacts and checkpoints are kept; by default below `.lab` in the working directory."""

    storage: str = "sqlite:///.lab/optuna.db"
    tracking_uri: str = "sqlite:///.lab/mlflow.db"
    artifact_dir: Path = Path(".lab/artifacts")
    checkpoint_dir: Path = Path(".lab/checkpoints")
