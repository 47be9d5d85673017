"""A real MLflow server, started once a session, or a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import MlflowServer


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Iterator[str]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow-server"), fresh_databases / "mlflow.db")
    try:
        server.start()
        yield server.url
    finally:
        server.stop()
