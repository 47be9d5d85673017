"""Where a server keeps what it has: its data, its logs, and the ports and passwords that stay the same."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lab.errors import ConfigError, ResourceError
from lab.server_file import SERVER_FILE, write_private

__all__ = ["Home", "Settings", "free_port", "is_free", "read_settings"]

_PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections


@dataclass(frozen=True)
class Home:
    """The folder `.lab`, and what `lab serve` has in it."""

    folder: Path

    @property
    def server(self) -> Path:
        """Folder of everything but the server file."""
        return self.folder / "server"

    @property
    def postgres(self) -> Path:
        """Folder of the databases."""
        return self.server / "postgres"

    @property
    def next_postgres(self) -> Path:
        """Folder of the databases of a newer version, while they are copied there."""
        return self.server / "postgres.next"

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts."""
        return self.server / "artifacts"

    @property
    def server_file(self) -> Path:
        """What tells commands and workers where the stores are."""
        return self.folder / SERVER_FILE

    @property
    def settings(self) -> Path:
        """The ports, and all passwords."""
        return self.server / "settings.json"

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.server / f"{name.lower()}.log"

    def create(self, *, passable: bool) -> None:
        """Create the folders, for their owner only.

        Args:
            passable: whether another account must pass through, to reach a folder of its own.

        Raises:
            ResourceError: the folder cannot be written.
        """
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            self.server.chmod(0o711 if passable else 0o700)
            self.artifacts.chmod(0o700)
        except OSError as error:
            raise ResourceError(f"{self.server} cannot be written: {error.strerror}") from None


@dataclass(frozen=True)
class Settings:
    """What stays the same over restarts, because workers have the addresses, and the databases the passwords.

    Args:
        mlflow_port: of the MLflow server.
        postgres_port: of PostgreSQL.
        password: of MLflow's and PostgreSQL's account `lab`, for everybody who has the server file.
        owner_password: of PostgreSQL's superuser, for `lab serve` only.
        secret_key: of MLflow's web application.
    """

    mlflow_port: int
    postgres_port: int
    password: str
    owner_password: str
    secret_key: str

    def on_free_ports(self, bind: str) -> Settings:
        """Return the settings with other ports instead of those that another program has taken at `bind`."""
        found = self
        if not is_free(bind, found.mlflow_port):
            found = replace(found, mlflow_port=free_port(bind, found.postgres_port))
        if not is_free(bind, found.postgres_port):
            found = replace(found, postgres_port=free_port(bind, found.mlflow_port))
        return found

    def write(self, file: Path) -> None:
        """Write them for their owner only."""
        write_private(file, json.dumps(asdict(self), indent=2))


def read_settings(home: Home, bind: str) -> Settings:
    """Return the settings of a server; of a new one, they are made.

    Args:
        home: of the server.
        bind: the address at which ports must be free.

    Raises:
        ConfigError: the file cannot be read; without it, nobody can sign in.
    """
    if not home.settings.exists() and not home.postgres.exists():
        made = [secrets.token_urlsafe(24) for _ in range(3)]
        port = free_port(bind)
        Settings(port, free_port(bind, port), *made).write(home.settings)
    try:
        return Settings(**json.loads(home.settings.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{home.settings}: cannot be read: {error}. It has the passwords of {home.postgres}: "
            "restore it from a backup"
        ) from None


def is_free(bind: str, port: int) -> bool:
    """Return whether a program may listen on `port` of the address `bind`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            if os.name == "posix":  # a connection that was closed a moment ago is in nobody's way
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def free_port(bind: str, other: int | None = None) -> int:
    """Return a port of the address `bind` on which a program may listen, except `other`.

    Raises:
        ResourceError: none is free.
    """
    for port in random.SystemRandom().sample(_PORTS, 1000):
        if port != other and is_free(bind, port):
            return port
    raise ResourceError(f"no port between {_PORTS.start} and {_PORTS.stop} is free at {bind}")
