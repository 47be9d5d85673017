"""Keeps MLflow from waiting long, from logging noise, from sending telemetry and from creating things twice."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quieten", "sent_once", "settle"]

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Three retries with short pauses report a missing server within seconds; MLflow's defaults take four minutes.
_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    _RETRIES: "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Those at CRITICAL report failures that reach us as exceptions too.
_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "mlflow.system_metrics": logging.CRITICAL,
    "urllib3.connectionpool": logging.ERROR,
}
_CREATING = threading.Lock()


def settle() -> None:
    """Set environment variables for MLflow, unless the user has set them. Call this before importing it."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def quieten() -> None:
    """Quieten the loggers. Call this after importing MLflow, which configures them itself."""
    for logger, level in _LEVELS.items():
        logging.getLogger(logger).setLevel(level)


@contextmanager
def sent_once() -> Iterator[None]:
    """Have MLflow's client send the requests of this block once, whether or not they are answered.

    It would repeat a request whose answer was lost, even one that creates a run, of which there would then be two. It
    takes this from the environment, so for a moment other threads' requests are not repeated either.
    """
    with _CREATING:
        before = os.environ.get(_RETRIES)
        os.environ[_RETRIES] = "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_RETRIES]
            else:
                os.environ[_RETRIES] = before
