"""The file in which `lab serve` says where its stores are: whoever can read it can use them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from lab.errors import ConfigError, ResourceError

__all__ = ["SERVER_FILE", "ServerFile", "check_answers", "read_server_file", "why_silent", "write_private"]

SERVER_FILE = "server.json"  # in `.lab`
_CONNECT_SECONDS = 5.0
_RESTART_SECONDS = 30.0  # in which a server that has crashed is restarted by its `lab serve`
_LOOPBACK = ("127.", "localhost", "::1")


@dataclass(frozen=True)
class ServerFile:
    """Addresses of a server's stores, without passwords, and the credentials for them.

    Args:
        tracking_uri: of the MLflow server.
        storage: of the study database.
        username: for MLflow; empty if it asks for none.
        password: for MLflow and PostgreSQL.
        host: the machine that it runs on.
        pid: the process of `lab serve` there; 0 once it was stopped.
    """

    tracking_uri: str
    storage: str
    username: str = ""
    password: str = ""
    host: str = ""
    pid: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_local(self) -> bool:
        """Whether only the machine that it runs on can reach it."""
        return (urlsplit(self.storage).hostname or "").startswith(_LOOPBACK)

    def use(self, *, tracking: bool = True, storage: bool = True) -> None:
        """Give the credentials to MLflow and PostgreSQL, by the environment variables that they read.

        Args:
            tracking: whether to give MLflow its own; not if another server is used, which would be told them.
            storage: the same for PostgreSQL.
        """
        if self.password and tracking:
            os.environ["MLFLOW_TRACKING_USERNAME"] = self.username
            os.environ["MLFLOW_TRACKING_PASSWORD"] = self.password
        if self.password and storage:
            os.environ["PGPASSWORD"] = self.password

    def silent(self) -> str:
        """Return the address of the first store that does not accept connections; empty if both do."""
        return next((url for url in (self.storage, self.tracking_uri) if not _answers(url)), "")

    def write(self, file: Path) -> None:
        """Write it for its owner only, at once as a whole."""
        write_private(file, json.dumps(asdict(self), indent=2))


def read_server_file(file: Path) -> ServerFile:
    """Return what a server file says; what a newer version of lab adds to it is ignored.

    Raises:
        ConfigError: it does not exist or cannot be read.
    """
    known: Collection[str] = [field.name for field in fields(ServerFile)]
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return ServerFile(**{name: value for name, value in found.items() if name in known})
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such server file; `lab serve` writes one") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: is not a file that `lab serve` writes: {error}") from None


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read, at once as a whole.

    Raises:
        OSError: it cannot be written; its `filename` says which file, also where the disk is full.
    """
    scratch = file.with_name(f"{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(text)
    except OSError as error:
        error.filename = str(file)
        raise
    scratch.replace(file)


def check_answers(file: Path, server: ServerFile) -> None:
    """Raise unless both stores of `server` accept connections; a crashed one is given time to be restarted.

    Args:
        file: where it was read from.
        server: what it says.

    Raises:
        ResourceError: one does not, and why.
    """
    deadline = time.monotonic() + _RESTART_SECONDS
    while silent := server.silent():
        if not (server.is_here and _exists(server.pid)) or time.monotonic() >= deadline:
            raise ResourceError(why_silent(file, server, silent))
        time.sleep(0.2)


def why_silent(file: Path, server: ServerFile, silent: str) -> str:
    """Return what to do about a `server`, read from `file`, that does not answer at the address `silent`."""
    named = f"the server that {file} names"
    if server.is_here and _exists(server.pid):
        return (
            f"{named} does not answer at {silent}, although process {server.pid} runs: "
            "`lab serve --status` says more"
        )
    if server.is_here or not server.pid:
        there = "" if server.is_here else f" on {server.host}"
        return f"{named} is not running: start it with `lab serve`{there}"
    if server.is_local:
        return (
            f"{named} runs on {server.host} and answers only there: "
            f"start it again with `lab serve --host {server.host}`"
        )
    return f"{named} does not answer at {silent}: start it with `lab serve` on {server.host}"


def _exists(pid: int) -> bool:
    import psutil  # only when it is needed: `lab --help` imports this module

    return pid > 0 and psutil.pid_exists(pid)


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
