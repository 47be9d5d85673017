"""Servers that tests stop and start: MLflow's, and a network connection to it that can be cut."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from lab.serve import home

__all__ = ["AuthServer", "MlflowServer", "Network", "dead_port", "free_port"]

_START_SECONDS = 200  # a loaded machine is slow
_HELD: list[socket.socket] = []


def free_port() -> int:
    """Return a port for a server that is started later, or again: one that no connection of others is given."""
    return home.free_port("127.0.0.1")


def dead_port() -> int:
    """Return a port that refuses connections for as long as this process lives: nobody else is given it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))  # and does not listen
    _HELD.append(held)
    return int(held.getsockname()[1])


class MlflowServer:
    """A server that can be stopped and started again, at the same address and with the same contents.

    It keeps the artifacts of its clients. `database` is a fresh one to begin with: making one takes seconds.
    """

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        if database is not None:
            shutil.copy(database, folder / "mlflow.db")

    def start(self) -> None:
        command = self._command()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # job runners take seconds to start
        environment |= self._settings()
        log = self.folder / "server.log"
        with log.open("ab") as output:
            # its own session, because the server is a tree of processes that must all be killed
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)

    def check(self) -> None:
        """Fail, with its exit code and its last words, if it has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            log = (self.folder / "server.log").read_text()
            pytest.fail(f"the MLflow server ended with exit code {code}:\n{log[-3000:]}")

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
            *("--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
            *("--artifacts-destination", f"{self.folder}/artifacts"),
        ]

    def _settings(self) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:  # else its number may be another's by now
            os.killpg(process.pid, signal.SIGKILL)  # nothing has to be kept, and a clean exit takes seconds
            process.wait()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=10).ok
        except requests.RequestException:
            return False


class AuthServer(MlflowServer):
    """A server that asks for a user name and a password; `ADMIN` are the administrator's."""

    ADMIN = ("admin", "administrators-own")

    def create_user(self, name: str, password: str) -> None:
        """Create an account, which may read everything and write what it created itself."""
        self._post("POST", "users/create", {"username": name, "password": password})

    def change_password(self, name: str, password: str) -> None:
        self._post("PATCH", "users/update-password", {"username": name, "password": password})

    def _post(self, method: str, path: str, body: dict[str, str]) -> None:
        address = f"{self.url}/api/2.0/mlflow/{path}"
        requests.request(method, address, json=body, auth=self.ADMIN, timeout=30).raise_for_status()

    def _command(self) -> list[str]:
        return [*super()._command(), "--app-name", "basic-auth"]

    def _settings(self) -> dict[str, str]:
        name, password = self.ADMIN
        file = self.folder / "auth.ini"
        file.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.folder}/auth.db\n"
            f"admin_username = {name}\nadmin_password = {password}\n"
        )
        return {"MLFLOW_AUTH_CONFIG_PATH": str(file), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex()}


class Network:
    """A connection to a server on `port`, at a separate address, that can be cut: what is sent then is swallowed."""

    def __init__(self, port: int) -> None:
        self._server = port
        self.unanswered: set[bytes] = set()  # beginnings of the requests whose answer is to be lost
        self._cut = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break open connections; new ones hang until the client gives up."""
        self._cut.set()
        self._break()

    def mend(self) -> None:
        self._cut.clear()
        self._break()  # what has hung since then; its client retries

    def lose_answer(self, request: str) -> None:
        """Break the connection when the server answers the next request that begins like this."""
        self.unanswered.add(request.encode())

    def close(self) -> None:
        self._listener.close()
        self._break()

    def _break(self) -> None:
        while self._open:
            with suppress(OSError):
                self._open.pop().close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            if not self._cut.is_set():
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        self._open.append(server)
        is_lost = threading.Event()

        def ask(data: bytes) -> bool:
            for request in [each for each in self.unanswered if data.startswith(each)]:
                self.unanswered.remove(request)
                is_lost.set()
            return True

        def answer(data: bytes) -> bool:
            return not is_lost.is_set()

        for source, target, passes in ((client, server, ask), (server, client, answer)):
            threading.Thread(target=_carry, args=(source, target, passes), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket, passes: Callable[[bytes], bool]) -> None:
    with suppress(OSError):
        while (data := source.recv(65536)) and passes(data):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
