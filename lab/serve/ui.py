"""The MLflow UI of stores that no server serves: a server for this machine, for as long as somebody looks."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.engines import Stores
from lab.errors import ResourceError
from lab.serve.home import free_port, is_free
from lab.serve.listening import LOOPBACK
from lab.serve.mlflow_common import QUIET, no_proxy
from lab.serve.service import Service, Stopped
from lab.stopping import Stop

__all__ = ["serve_ui"]

_PORT = 5000  # the one of `mlflow server`
_TICK = 0.5
_SECONDS = 10


def serve_ui(
    stores: Stores,
    port: int | None = None,
    *,
    stop: Stop,
    on_start: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the MLflow UI of the database of `stores`, to this machine only, until a stop is asked for.

    Args:
        stores: whose tracking store is a database.
        port: of the UI; if None 5000, or a free one if another program uses that.
        stop: ends it.
        on_start: called with its address once it answers.

    Raises:
        ResourceError: another program uses the port, or the server does not start or ends by itself.
    """
    if port is not None and not is_free(LOOPBACK, port):
        raise ResourceError(f"--port {port}: another program uses it; name another one, or leave --port out")
    ui = _Server(stores, port or (_PORT if is_free(LOOPBACK, _PORT) else free_port(LOOPBACK)))
    try:
        ui.start(stop)
        on_start(ui.url)
        while not stop.wait(_TICK):
            if ui.exit_code is not None:
                raise ResourceError(ui.explained(f"exited with code {ui.exit_code}"))
    except Stopped:
        pass
    finally:
        ui.stop()


class _Server(Service):
    def __init__(self, stores: Stores, port: int) -> None:
        super().__init__("The MLflow UI", stores.journal_dir.parent / "ui.log")
        self._stores = stores
        self._port = port
        self.log.parent.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def command(self) -> Sequence[str]:
        # one process: several share a socket, which delays every request by about 40 ms
        return [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", LOOPBACK, "--port", str(self._port)),
            *("--uvicorn-opts", "--log-level warning"),
        ]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **QUIET,
            "MLFLOW_BACKEND_STORE_URI": self._stores.tracking_uri,  # not an argument: it may have a password
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(self._stores.artifact_dir),
        }

    def folder(self) -> Path:
        return Path.cwd()

    def answers(self) -> bool:
        try:
            with no_proxy.open(f"{self.url}/health", timeout=_SECONDS) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
