"""What integration tests share: fresh stores, and a PostgreSQL server of the session's own on the loopback address."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.engines import Stores
from lab.study import open_storage
from lab.tracking import prepare

_ACCOUNT = "postgres"  # the server refuses to run as root


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a running server, without a database; it and its files are gone afterwards."""
    binaries = _binaries()
    folder = Path(
        tempfile.mkdtemp(prefix="lab-postgres-")
    )  # not pytest's own: the server's account must enter it
    if os.geteuid() == 0:
        shutil.chown(folder, _ACCOUNT, _ACCOUNT)
    data, port = folder / "data", _free_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    try:
        _run(binaries / "initdb", "-D", data, "-U", "lab", "--auth=trust", "--encoding=UTF8")
        _run(binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield f"postgresql://lab@127.0.0.1:{port}"
        finally:
            _run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
