"""Fixtures for integration tests: fresh stores, and servers of this session on the loopback address."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lab import children
from lab.engines import Stores
from lab.tracking import connect
from lab.tracking.mlflow import MlflowTracker
from tests.once import copy_of
from tests.servers import MlflowServer, free_port
from tests.stores import stores_in

_CLOCK = {"epoch_seconds", "images_per_second", "seconds"}
_ACCOUNT = "postgres"  # the server refuses to run as root

# one server of processes lives as long as the tests do: whoever starts it, it is the one that workers need
children._preloaded["lab.engines.preloaded"] = None


@pytest.fixture
def stores(tmp_path: Path, fresh_databases: Path) -> Stores:
    copy_of(fresh_databases, tmp_path)
    return stores_in(tmp_path)


class PostgresServer:
    """A PostgreSQL server for these tests; `url` is its address without a database."""

    def __init__(self, folder: Path) -> None:
        self._binaries = _binaries()
        self._folder, self._data = folder, folder / "data"
        self._port = free_port()
        self.url = f"postgresql://lab@127.0.0.1:{self._port}"
        if os.geteuid() == 0:
            shutil.chown(folder, _ACCOUNT, _ACCOUNT)
        _run(self._binaries / "initdb", "-D", self._data, "-U", "lab", "--auth=trust", "--encoding=UTF8")

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories={self._folder}"
        )
        log = ("-l", self._folder / "log", "-o", f"{options} -c fsync=off")
        _run(self._binaries / "pg_ctl", "-D", self._data, *log, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        _run(self._binaries / "pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def create_role(self, name: str, password: str) -> None:
        """Create a superuser that needs a password; no other user does."""
        access = self._data / "pg_hba.conf"
        access.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        self._execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{password}'")
        before = self._execute("SELECT pg_conf_load_time()")
        self._execute("SELECT pg_reload_conf()")  # which only asks for it
        while self._execute("SELECT pg_conf_load_time()") == before:
            time.sleep(0.05)

    def database(self) -> str:
        """Create a database; return its address."""
        name = f"lab_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def _execute(self, statement: str) -> list[Any]:
        """Return the rows, in a new connection."""
        address = f"{self.url.replace('://', '+psycopg://')}/postgres"
        engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            done = connection.execute(sa.text(statement))
            found = [tuple(row) for row in done] if done.returns_rows else []
        engine.dispose()
        return found


@contextmanager
def _running_postgres() -> Iterator[PostgresServer]:
    folder = Path(
        tempfile.mkdtemp(prefix="lab-postgres-")
    )  # not pytest's own: the server's account must enter it
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            with suppress(RuntimeError):  # a test has stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(tmp_path: Path, fresh_databases: Path) -> Iterator[MlflowServer]:
    """An MLflow server for one test, not started yet."""
    server = MlflowServer(tmp_path / "server", fresh_databases / "mlflow.db")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; it and its files are removed afterwards."""
    with _running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and start."""
    with _running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(postgres: PostgresServer) -> str:
    """The address of a running server, without a database."""
    return postgres.url


@pytest.fixture
def points() -> Callable[[str, str], dict[str, dict[str, list[tuple[int, float]]]]]:
    """What MLflow has on each trial of a finished study: every metric except times."""

    def read(tracking_uri: str, study: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
        tracker = connect(tracking_uri)
        runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "trial"})
        assert runs["status"].tolist() == ["FINISHED"] * len(runs)
        assert runs["name"].is_unique
        return {
            name: _points(tracking_uri, run) for name, run in zip(runs["name"], runs["run_id"], strict=True)
        }

    return read


def _points(tracking_uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    client = MlflowTracker(tracking_uri)._client
    names = {name for name in client.get_run(run_id).data.metrics if not name.startswith("system/")}
    found = {}
    for name in names:
        history = client.get_metric_history(run_id, name)  # as logged: a repeated step is there twice
        assert len({point.step for point in history}) == len(history), f"{name} repeats a step"
        if name not in _CLOCK:
            found[name] = sorted((point.step, point.value) for point in history)
    return found


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("no PostgreSQL server is installed (Debian's postgresql)")
    return Path(on_path).resolve().parent


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--init-groups", *words]
    # a file, not a pipe: the server keeps its output open for as long as it lives
    with tempfile.TemporaryFile("w+") as output:
        if subprocess.run(words, cwd="/", stdout=output, stderr=output).returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(words)} failed:\n{output.read()}")
