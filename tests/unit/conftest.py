"""Fresh SQLite databases for unit tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def url(fresh_databases: Path, tmp_path: Path) -> str:
    """The address of a database for studies, with none in it."""
    shutil.copy(fresh_databases / "optuna.db", tmp_path)
    return f"sqlite:///{tmp_path / 'optuna.db'}"


@pytest.fixture
def tracking_uri(fresh_databases: Path, tmp_path: Path) -> str:
    """The address of a database for runs, with none in it."""
    shutil.copy(fresh_databases / "mlflow.db", tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
