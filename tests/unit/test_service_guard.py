"""docker/image/guard.py: what stands in front of the service's tracking server."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "docker" / "image" / "guard.py"
API = "/api/2.0/mlflow/runs/get"
RIGHT = {"ann": "right", "bob": "right"}


@pytest.fixture
def guard() -> ModuleType:
    found = importlib.util.spec_from_file_location("guard", FILE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Server:
    """A guarded application that has users, and counts the passwords that it checks."""

    def __init__(self, guard: ModuleType) -> None:
        self.now = 0.0
        self.checks = 0
        self.seen: list[dict[bytes, bytes]] = []
        self._guarded = guard.Guard(self._app, lambda: self.now)

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        self.seen.append(headers)
        status = 200
        if scope["path"] != "/health":
            self.checks += 1
            given = headers.get(b"authorization", headers.get(b"x-mlflow-authorization", b" "))
            user, _, password = base64.b64decode(given.split(b" ")[1]).decode().partition(":")
            status = 200 if RIGHT.get(user) == password else 401
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(
        self,
        account: str = "",
        *,
        client: str = "10.0.0.1",
        path: str = API,
        name: bytes = b"authorization",
        **headers: str,
    ) -> int:
        """Ask as `account` (`name:password`); return the status."""
        sent: list[dict[str, Any]] = []
        asked = [(key.encode(), value.encode()) for key, value in headers.items()]
        if account:
            asked.append((name, b"Basic " + base64.b64encode(account.encode())))

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "headers": asked, "client": (client, 1)}
        asyncio.run(self._guarded(scope, None, send))
        status: int = sent[0]["status"]
        return status


@pytest.mark.parametrize("name", [b"authorization", b"x-mlflow-authorization"])
def test_guesses_are_limited_and_cost_nobody_else_anything(guard: ModuleType, name: bytes) -> None:
    server = Server(guard)
    assert server.ask("ann:right") == 200
    codes = [server.ask(f"ann:wrong {number}", name=name) for number in range(200)]
    assert codes == [401] * guard.GUESSES + [429] * (200 - guard.GUESSES)
    assert server.checks == 1 + guard.GUESSES
    assert server.ask("ann:right") == 200  # who was in stays in
    assert server.ask("bob:right") == 200  # from the same address, as behind a published port
    assert server.ask("ann:wrong", client="10.0.0.2") == 401
    server.now += guard.SECONDS_PER_GUESS
    assert [server.ask("ann:wrong"), server.ask("ann:wrong")] == [401, 429]


def test_what_asks_for_no_password_proves_none(guard: ModuleType) -> None:
    server = Server(guard)
    for number in range(100):
        server.ask(f"ann:wrong {number}", path="/health")
        server.ask(f"ann:wrong {number}")
    assert server.checks == guard.GUESSES


def test_right_passwords_are_never_limited(guard: ModuleType) -> None:
    server = Server(guard)
    assert {server.ask("ann:right", path="/artifacts") for _ in range(500)} == {200}


def test_a_password_that_was_changed_counts_as_wrong(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(guard)
    assert server.ask("ann:right") == 200
    monkeypatch.setitem(RIGHT, "ann", "new")
    codes = [server.ask("ann:right") for _ in range(100)]
    assert codes.count(401) == guard.GUESSES + 1


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ("http://localhost:5000", 200),  # its own
        ("https://localhost:5000", 200),  # its own, behind a proxy with TLS
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:5000", 403),
        ("http://localhost", 403),
        ("https://evil.example.org", 403),
        ("null", 403),
        ("https://notes.example.org", 200),  # of LAB_ORIGINS
    ],
)
def test_only_its_own_pages_and_listed_ones_may_call(guard: ModuleType, origin: str, code: int) -> None:
    guard.ORIGINS.append("https://notes.*")
    server = Server(guard)
    assert server.ask("ann:right", host="localhost:5000", origin=origin) == code
    assert len(server.seen) == (code == 200)
    listed = origin.startswith("https://notes")
    assert all((b"origin" in headers) == listed for headers in server.seen)  # MLflow answers those itself
