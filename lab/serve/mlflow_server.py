"""The MLflow server, on PostgreSQL, which keeps the artifacts and asks for a password."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lab.errors import ResourceError
from lab.serve.home import Home, Settings
from lab.serve.listening import Listening
from lab.serve.mlflow_common import COOKIE, QUIET, no_proxy
from lab.serve.postgres import AUTH, MLFLOW, ROLE, Postgres, plain_environment
from lab.serve.service import Service
from lab.server_file import write_private

__all__ = ["MlflowServer"]

_SEARCH = "/api/2.0/mlflow/experiments/search"  # the first request of every trainer; /health answers without a database
_SECONDS = 10
# MLflow checks a password for 50 ms of CPU; an old one is accepted for as long as it is remembered
_ACCOUNTS = """\
[mlflow]
default_permission = READ
database_uri = {url}
admin_username = {role}
auth_cache_ttl_seconds = 60
"""


class MlflowServer(Service):
    """The tracking server of `lab serve`.

    Args:
        home: where its artifacts are.
        settings: its port and passwords.
        listening: at which addresses it listens.
        postgres: its database server.
    """

    def __init__(self, home: Home, settings: Settings, listening: Listening, postgres: Postgres) -> None:
        super().__init__("MLflow", home.log("mlflow"))
        self._home = home
        self._settings = settings
        self._listening = listening
        self._postgres = postgres

    @property
    def url(self) -> str:
        """Its address."""
        return self._listening.url("http", self._settings.mlflow_port)

    def create(self) -> None:
        """Write the file in which MLflow looks for its accounts' database; it contains no password.

        Raises:
            ResourceError: MLflow's accounts are not installed.
        """
        if find_spec("flask_wtf") is None:
            raise ResourceError(
                "MLflow's accounts are not installed. Install them with: pip install 'lab[serve]'"
            )
        write_private(self._accounts, _ACCOUNTS.format(url=self.database(AUTH), role=ROLE))

    def database(self, name: str = MLFLOW) -> str:
        """Return the address of one of its databases, as MLflow takes it."""
        return self._postgres.url(name).replace("postgresql:", "postgresql+psycopg:", 1)

    def command(self) -> Sequence[str]:
        """See `Service`."""
        # one process: several share a socket, which delays every request by about 40 ms
        return [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--app-name", "basic-auth"),
            *("--host", self._listening.bind, "--port", str(self._settings.mlflow_port)),
            *("--allowed-hosts", self._listening.hosts),
            *("--cors-allowed-origins", self._listening.origins(self._settings.mlflow_port)),
            *("--backend-store-uri", self.database()),
            *("--artifacts-destination", str(self._home.artifacts)),
            *("--uvicorn-opts", "--log-level warning"),
        ]

    def environment(self) -> dict[str, str]:
        """See `Service`."""
        return plain_environment() | {
            **QUIET,
            COOKIE: str(self._home.server),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self._settings.password,
            "MLFLOW_AUTH_CONFIG_PATH": str(self._accounts),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self._settings.secret_key,
            "PGPASSWORD": self._settings.password,
        }

    def folder(self) -> Path:
        """See `Service`."""
        return self._home.server

    def answers(self) -> bool:
        """See `Service`."""
        account = base64.b64encode(f"{ROLE}:{self._settings.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}{_SEARCH}",
            json.dumps({"max_results": 1}).encode(),
            {"Authorization": f"Basic {account}", "Content-Type": "application/json"},
        )
        try:
            with no_proxy.open(request, timeout=_SECONDS) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def explained(self, what: str) -> str:
        """See `Service`."""
        if "database schema" in self.last_words():
            return (
                "The tables of MLflow are of another version than the MLflow that is installed: "
                "use `lab serve --upgrade` (it changes them for good; back up first)"
            )
        return super().explained(what)

    @property
    def _accounts(self) -> Path:
        return self._home.server / "auth.ini"
