"""The one place where errors of MLflow, and of the libraries below it, become `TrackingError`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException

from lab.errors import TrackingError
from lab.tracking.base import DeniedError, UnavailableError, public_uri

__all__ = ["translated"]

_FOREIGN = (
    MlflowException,
    requests.RequestException,
    sqlalchemy.exc.SQLAlchemyError,
    sqlite3.Error,
    OSError,
)
_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # the server went down in the middle of its answer
    sqlalchemy.exc.OperationalError,
)
_OUT_OF_REACH = re.compile(  # for failures that a server or MLflow reports in words only
    r"max retries exceeded|connection refused|connection aborted|connection reset|timed? ?out"
    r"|name resolution|could not connect|connection to server",
    re.IGNORECASE,
)
_NO_REGISTRY = re.compile(
    r"/(registered-models|model-versions)/\S+ failed with error code (404|405|501)"  # MLflow's own 404 has other words
)
_REASON = re.compile(r"\[Errno -?\d+\] ([\w ,]+)|(database is locked|[\w ]*timed out)")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_MOST_CHARACTERS = 600
_CREDENTIALS = "~/.mlflow/credentials"  # which MLflow reads


@contextmanager
def translated(uri: str, action: str) -> Iterator[None]:
    """Turn every error of MLflow into a `TrackingError` that says what was tried and what to do.

    Raises:
        UnavailableError: the store `uri` is unreachable or too busy.
        TrackingError: it refused.
    """
    try:
        yield
    except _FOREIGN as error:
        # `from None`: the chain contains addresses with passwords, and tracebacks become artifacts
        raise _explained(error, uri, action) from None


def _explained(error: Exception, uri: str, action: str) -> TrackingError:
    detail = _detail(error, uri)
    where = f"{action[0].upper()}{action[1:]} failed at {public_uri(uri)}: "
    status = _status(error)
    if status in (401, 403):
        return _denied(status, where, detail, uri)
    if _NO_REGISTRY.search(detail):
        return TrackingError(f"{where}this store has no model registry")
    if _is_out_of_reach(error, detail):
        reason = _REASON.search(detail)
        detail = next(part for part in reason.groups() if part) if reason else detail
        if uri.startswith("http"):
            return UnavailableError(
                f"{where}no answer. Is the server running? Start one with `lab ui`, or name "
                f"another with --tracking-uri. ({detail})"
            )
        return UnavailableError(f"{where}the database cannot be reached or is busy. ({detail})")
    return (
        UnavailableError(where + detail) if status in (429, 502, 503, 504) else TrackingError(where + detail)
    )


def _denied(status: int, where: str, detail: str, uri: str) -> TrackingError:
    """Return why the server rejected a request, and what to do."""
    if status == 401:
        return TrackingError(
            f"{where}the user name or password is wrong or missing (401). "
            f"Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write {_CREDENTIALS}."
        )
    if "host header" in detail.lower():
        return TrackingError(
            f"{where}the server does not accept the name {urlsplit(uri).hostname} (403). Start it with "
            "--allowed-hosts (or MLFLOW_SERVER_ALLOWED_HOSTS) listing that name, or use another of its names."
        )
    return DeniedError(
        f"{where}this account lacks permission (403). {detail} Ask an administrator of the server for the "
        "permission EDIT, or set another account in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in "
        f"{_CREDENTIALS}. A server whose --allowed-hosts lacks its name also answers 403."
    )


def _detail(error: Exception, uri: str) -> str:
    """Return the error's first words, without any password."""
    password = urlsplit(uri).password
    text = str(error).split("\n[SQL")[0]
    text = " ".join(_USERINFO.sub("", text.replace(password, "***") if password else text).split())
    text = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + " …"
    return text if text.endswith((".", "…", ")")) else text + "."


def _status(error: Exception) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:  # from an artifact
        return int(error.response.status_code)
    if isinstance(error, MlflowException):
        plain: Any = error  # mlflow is not fully typed
        found = re.search(r"failed with error code (\d{3})", str(error))
        return int(found[1]) if found else int(plain.get_http_status_code())
    return None


def _is_out_of_reach(error: Exception, detail: str) -> bool:
    # MLflow raises its own error from that of requests, or while handling it
    if isinstance(error, _NO_ANSWER) or isinstance(error.__cause__ or error.__context__, _NO_ANSWER):
        return True
    return bool(_OUT_OF_REACH.search(detail)) or "database is locked" in detail
