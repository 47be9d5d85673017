"""Grids and searches of image-classification trials, every one of them tracked in MLflow.

import lab

result = lab.train(lab.TrialConfig(dataset="digits", activation="gelu"), tracker=lab.connect("sqlite:///mlflow.db"))
result.outcome, result.best_value, result.model

grid = lab.load_grid("grids/quickstart.yaml")
lab.sweep(grid).leaderboard
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.config import Grid, Space, TrialConfig, load_config, load_grid
    from lab.engines import Stores, SweepResult, sweep
    from lab.errors import LabError
    from lab.objective import Placement, TrialResult, train
    from lab.tracking import MemoryTracker, Tracker, connect

__all__ = [
    "Grid",
    "LabError",
    "MemoryTracker",
    "Placement",
    "Space",
    "Stores",
    "SweepResult",
    "Tracker",
    "TrialConfig",
    "TrialResult",
    "connect",
    "load_config",
    "load_grid",
    "sweep",
    "train",
]

_ROOMS = {
    "lab.config": ("Grid", "Space", "TrialConfig", "load_config", "load_grid"),
    "lab.engines": ("Stores", "SweepResult", "sweep"),
    "lab.errors": ("LabError",),
    "lab.objective": ("Placement", "TrialResult", "train"),
    "lab.tracking": ("MemoryTracker", "Tracker", "connect"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `lab --help` must not wait for torch and MLflow."""
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(room), name)
    raise AttributeError(f"module 'lab' has no attribute '{name}'")
