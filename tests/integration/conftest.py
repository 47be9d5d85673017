"""Fresh SQLite stores for tests of several rooms together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.engines import Stores
from lab.study import open_storage
from lab.tracking import prepare


@pytest.fixture(scope="session")
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty databases to copy: making one takes MLflow seconds of migrations."""
    folder = tmp_path_factory.mktemp("databases")
    open_storage(f"sqlite:///{folder / 'optuna.db'}").engine.dispose()
    prepare(f"sqlite:///{folder / 'mlflow.db'}")
    return folder


@pytest.fixture
def stores(tmp_path: Path, fresh_databases: Path) -> Stores:
    for file in fresh_databases.glob("*.db"):
        shutil.copy(file, tmp_path)
    return Stores(
        storage=f"sqlite:///{tmp_path / 'optuna.db'}",
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        artifact_dir=tmp_path / "artifacts",
        checkpoint_dir=tmp_path / "checkpoints",
    )
