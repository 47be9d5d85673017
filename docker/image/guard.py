"""A guard in front of MLflow's application: it rejects pages of other sites and slows down password guessing.

MLflow itself answers pages on every port of localhost, whatever origins it is given, and checks any number of
passwords, at 50 ms of CPU each: twenty guesses a second would keep all other clients waiting.
"""

import base64
import binascii
import fnmatch
import hashlib
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from cachetools import TTLCache

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Any, Send], Awaitable[None]]

ORIGINS = [one.strip() for one in os.environ.get("LAB_ORIGINS", "").split(",") if one.strip()]
CREDENTIALS = (b"authorization", b"x-mlflow-authorization")  # the second one is for routes of /gateway

GUESSES = 20  # available to a client at once, for one account
SECONDS_PER_GUESS = 2  # after which it gets another one
MOST_CLIENTS = 10_000  # that are remembered; a forgotten one starts afresh

# a successful answer from these routes means that the password was checked; others may not ask for one
CHECKED = re.compile(r"/(ajax-)?api/\d\.\d/mlflow/(?!server-info)")


def create_app() -> "Guard":
    """Return MLflow's application behind a guard; uvicorn calls it."""
    from mlflow.server.auth import create_app

    return Guard(create_app())


class Guesses:
    """How many more passwords each client may try for an account, and which credentials are known to be right."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = TTLCache(
            MOST_CLIENTS, GUESSES * SECONDS_PER_GUESS, timer=clock
        )  # (how many, when), by client and account
        self._right = TTLCache(MOST_CLIENTS, 3600, timer=clock)
        self._key = secrets.token_bytes(32)

    def may_try(self, client: str, credentials: bytes) -> bool:
        """Return whether a password may be checked; one that was recently right always may."""
        return self.is_right(credentials) or self._now(client, credentials) >= 1

    def is_right(self, credentials: bytes) -> bool:
        """Return whether `credentials` are known to be right."""
        return self._seal(credentials) in self._right

    def add(self, client: str, credentials: bytes, number: int) -> None:
        """Add `number`, which may be negative, to the guesses left."""
        left = min(GUESSES, self._now(client, credentials) + number)
        self._left[client, _user(credentials)] = left, self._clock()

    def learn(self, credentials: bytes, right: bool) -> None:
        """Note whether `credentials` are right."""
        if right:
            self._right[self._seal(credentials)] = True
        else:
            self._right.pop(self._seal(credentials), None)

    def _now(self, client: str, credentials: bytes) -> float:
        left, when = self._left.get((client, _user(credentials)), (GUESSES, self._clock()))
        return min(GUESSES, left + (self._clock() - when) / SECONDS_PER_GUESS)

    def _seal(self, credentials: bytes) -> bytes:
        return hashlib.blake2b(credentials, key=self._key).digest()


class Guard:
    """An ASGI application that wraps another one."""

    def __init__(self, app: Application, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._guesses = Guesses(clock)

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Pass a request on, without the Origin header if it is the server's own; or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, host = header(scope, b"origin"), header(scope, b"host")
        if origin and urlsplit(origin).netloc != host and not is_listed(origin):
            await refuse(send, 403, "Cross-origin request blocked")
            return
        client = (scope.get("client") or ("",))[0]
        tries = [value for name, value in scope["headers"] if name in CREDENTIALS]
        if not all(self._guesses.may_try(client, one) for one in tries):
            await refuse(send, 429, "Too many wrong passwords", (b"retry-after", b"%d" % SECONDS_PER_GUESS))
            return
        guesses = [one for one in tries if not self._guesses.is_right(one)]
        for one in guesses:
            self._guesses.add(client, one, -1)  # before the check, during which other requests arrive

        async def note(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._learn(client, tries, guesses, message["status"], scope["path"])
            await send(message)

        if origin and not is_listed(origin):  # MLflow's own page, which needs no CORS headers
            scope = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"origin"]}
        await self._app(scope, receive, note)

    def _learn(self, client: str, tries: list[bytes], guesses: list[bytes], status: int, path: str) -> None:
        if status != 401:
            for one in guesses:
                self._guesses.add(client, one, 1)  # only a wrong password uses one up
        if status == 401 or (status < 300 and CHECKED.match(path)):
            for one in tries:
                self._guesses.learn(one, status != 401)


def is_listed(origin: str) -> bool:
    """Return whether LAB_ORIGINS lists `origin`; `*` matches anything."""
    return any(fnmatch.fnmatchcase(origin, one) for one in ORIGINS)


def header(scope: Scope, name: bytes) -> str:
    """Return the value of a request's header, or an empty string."""
    return dict(scope["headers"]).get(name, b"").decode("latin-1")


async def refuse(send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    """Answer with `text`, and nothing else that a page of another site could read."""
    headers = [(b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


def _user(credentials: bytes) -> bytes:
    """Return the user name in basic credentials, or nothing."""
    try:
        return base64.b64decode(credentials.split()[1]).partition(b":")[0]
    except (IndexError, binascii.Error):
        return b""
