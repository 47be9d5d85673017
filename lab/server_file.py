"""The file in which `lab serve` says where its stores are: whoever can read it can use them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.errors import ConfigError

__all__ = ["ServerFile", "read_server_file"]


@dataclass(frozen=True)
class ServerFile:
    """Addresses of a server's stores, without passwords, and the credentials for them.

    Args:
        tracking_uri: of the MLflow server.
        storage: of the study database.
        username: for MLflow; empty if it asks for none.
        password: for MLflow and PostgreSQL.
        host: the machine that it runs on.
        pid: the process of `lab serve` there.
    """

    tracking_uri: str
    storage: str
    username: str = ""
    password: str = ""
    host: str = ""
    pid: int = 0

    def use(self) -> None:
        """Give the credentials to MLflow and PostgreSQL, by the environment variables that they read."""
        if self.password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = self.username
            os.environ["MLFLOW_TRACKING_PASSWORD"] = os.environ["PGPASSWORD"] = self.password

    def write(self, file: Path) -> None:
        """Write it for its owner only, at once as a whole."""
        scratch = file.with_name(f"{file.name}.new")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            json.dump(asdict(self), output, indent=2)
        scratch.replace(file)


def read_server_file(file: Path) -> ServerFile:
    """Return what a server file says.

    Raises:
        ConfigError: it does not exist or cannot be read.
    """
    try:
        return ServerFile(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{file}: is not a file that `lab serve` writes: {error}") from None
