"""A real MLflow server, started once a session, or a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import MlflowServer


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow-server"), fresh_databases / "mlflow.db")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server_url(shared_server: MlflowServer) -> str:
    """The address of a server that the tests share."""
    shared_server.check()
    return shared_server.url
