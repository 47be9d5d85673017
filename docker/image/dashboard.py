"""Optuna's dashboard of the studies, read-only and only under its own names.

Unguarded, it answers to any Host, so a page of another site could read it once that site's name leads here (DNS
rebinding). A write would fail with 500 in the database, where its role may only read.
"""

import fnmatch
import os
from collections.abc import Callable, Iterable
from typing import Any

from optuna_dashboard import wsgi

HOSTS = ["localhost:*", "127.0.0.1:*", "[[]::1]:*"]
HOSTS += [one.strip() for one in os.environ.get("LAB_HOSTS", "").split(",") if one.strip()]


class Guard:
    """A WSGI application that wraps another one."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request on if it only reads and uses one of the dashboard's names."""
        if not any(fnmatch.fnmatchcase(environ.get("HTTP_HOST", ""), one) for one in HOSTS):
            return refuse(start_response, "Invalid Host header: add it to LAB_HOSTS")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start_response, "The dashboard is read-only; change studies with lab")
        return self._app(environ, start_response)


def refuse(start_response: Callable[..., Any], reason: str) -> list[bytes]:
    """Answer 403 with `reason`."""
    start_response("403 Forbidden", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")])
    return [reason.encode()]


app = Guard(wsgi("postgresql+psycopg://dashboard@database/lab"))
