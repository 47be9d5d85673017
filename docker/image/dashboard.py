"""Optuna's dashboard on the studies, for looking only, and under its own names only.

By itself it answers any Host, so that a page of another site could read it once its own name leads here (DNS
rebinding), and a write fails with 500 in the database, which lets its role read only.
"""

import fnmatch
import os
from collections.abc import Callable, Iterable
from typing import Any

from optuna_dashboard import wsgi

HOSTS = ["localhost:*", "127.0.0.1:*", "[[]::1]:*"]
HOSTS += [one.strip() for one in os.environ.get("LAB_HOSTS", "").split(",") if one.strip()]


class Guard:
    """A WSGI application around another one."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request on if it only reads and calls the dashboard by a name that it has."""
        if not any(fnmatch.fnmatchcase(environ.get("HTTP_HOST", ""), one) for one in HOSTS):
            return refuse(start_response, "Invalid Host header: name it in LAB_HOSTS")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(start_response, "The dashboard only shows; studies are changed with lab")
        return self._app(environ, start_response)


def refuse(start_response: Callable[..., Any], reason: str) -> list[bytes]:
    """Answer 403 with `reason`."""
    start_response("403 Forbidden", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")])
    return [reason.encode()]


app = Guard(wsgi("postgresql+psycopg://dashboard@database/lab"))
