"""Keeps MLflow from waiting long, from logging noise and from sending telemetry."""

from __future__ import annotations

import logging
import os

__all__ = ["quieten", "settle"]

# Three retries with short pauses report a missing server within seconds; MLflow's defaults take four minutes.
_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
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


def settle() -> None:
    """Set environment variables for MLflow, unless the user has set them. Call this before importing it."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def quieten() -> None:
    """Quieten the loggers. Call this after importing MLflow, which configures them itself."""
    for logger, level in _LEVELS.items():
        logging.getLogger(logger).setLevel(level)
