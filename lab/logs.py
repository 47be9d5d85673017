"""How `lab worker` and its processes log: as text for people, or as one JSON object per line.

Everything that such a process reports goes through `logging`: its progress, warnings and uncaught errors.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from lab.errors import LabWarning

__all__ = [
    "FORMATS",
    "adopt",
    "configure",
    "configured_format",
    "event",
    "inherit",
    "one_line_warnings",
    "redacted",
    "reset",
]

FORMATS = ("text", "json")
_INHERITED = "LAB_WORKER_LOG_FORMAT"  # for child processes; LAB_LOG_FORMAT is the user's and for one command
_HANDLER = "lab"  # name of our handler on the root logger
_THEIRS = ("alembic", "mlflow", "optuna")  # libraries with handlers of their own
_PASSWORD = re.compile(r"(://[^\s:/@]*):\S*@|([?&](?:ssl)?password=)[^&\s'\"]*")
_PREFIXES = {logging.WARNING: "Warning: ", logging.ERROR: "Error: ", logging.CRITICAL: "Error: "}

_format: str | None = None
_undo: list[Callable[[], None]] = []


def configure(form: str) -> None:
    """Make this process log in the format `form`, one of `FORMATS`, until `reset`.

    As text, progress goes to stdout and problems to stderr; JSON all goes to stdout, in order.
    """
    global _format
    reset()
    _format = form
    # else MLflow adds a handler to its logger on import; worker processes inherit this
    os.environ.update({"MLFLOW_CONFIGURE_LOGGING": "false", _INHERITED: form})
    adopt()
    root, own = logging.getLogger(), logging.getLogger("lab")
    handler, levels = _Handler(_formatter(form), everything=form == "json"), (root.level, own.level)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # MLflow silences warnings on import, unless there is a handler by then
    own.setLevel(logging.INFO)
    hooks = (warnings.showwarning, sys.excepthook, threading.excepthook)
    warnings.showwarning = _show_warning
    if form == "json":
        sys.excepthook, threading.excepthook = _uncaught, _uncaught_in_thread

    def undo() -> None:
        root.removeHandler(handler)
        for logger, level in zip((root, own), levels, strict=True):
            logger.setLevel(level)
        warnings.showwarning, sys.excepthook, threading.excepthook = hooks

    _undo.append(undo)


def one_line_warnings() -> None:
    """Show lab's warnings as `Warning: …`, without the line of source, which tells users nothing."""
    warnings.formatwarning = _format_warning


def adopt() -> None:
    """Take over the loggers of libraries that were imported after `configure`."""
    for name in _THEIRS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def reset() -> None:
    """Undo `configure`."""
    global _format
    _format = None
    os.environ.pop(_INHERITED, None)
    while _undo:
        _undo.pop()()


def inherit() -> None:
    """Log like the parent process, if that was configured."""
    if form := os.environ.get(_INHERITED):
        configure(form)


def configured_format() -> str | None:
    """Return the format in which this process logs, or None if it was not configured."""
    return _format


def event(name: str, **fields: Any) -> dict[str, Any]:
    """Return the `extra` of a log record about the event `name`; fields that are None are left out."""
    return {"event": name, **{key: value for key, value in fields.items() if value is not None}}


def redacted(text: str) -> str:
    """Return `text` with every password in an address replaced by `***`."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[1] else f"{found[2]}***", text)


class _Handler(logging.Handler):
    """Writes to the current stdout or stderr and flushes each line, because logs are read while they grow."""

    def __init__(self, formatter: logging.Formatter, *, everything: bool) -> None:
        super().__init__()
        self.set_name(_HANDLER)
        self.setFormatter(formatter)
        self._everything = everything  # to stdout

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream(record)
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:  # noqa: BLE001  # as handlers of `logging` do
            self.handleError(record)

    def _stream(self, record: logging.LogRecord) -> TextIO:
        return sys.stdout if self._everything or record.levelno < logging.WARNING else sys.stderr


class _Text(logging.Formatter):
    """`12:00:00  message`; problems without the time, as a command prints them."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s  %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # overrides
        if record.levelno < logging.WARNING:
            return super().formatMessage(record)
        named = {"trouble": "Trouble: ", "worker_failed": "Trouble: ", "stopping": "\n"}
        prefix = named.get(getattr(record, "event", ""), _PREFIXES.get(record.levelno, ""))
        return prefix + record.message


def _formatter(form: str) -> logging.Formatter:
    if form == "text":
        return _Text()
    from pythonjsonlogger.json import JsonFormatter  # 20 ms, which commands that log as text need not spend

    class Json(JsonFormatter):
        """One object per line; time, level, logger, message and host come first."""

        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {key: _plain(value) for key, value in log_data.items()}

        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
            moment = datetime.fromtimestamp(record.created, UTC)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return Json(
        ["asctime", "levelname", "name", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        static_fields={"host": socket.gethostname()},
    )


def _plain(value: Any) -> Any:
    """Return a field that JSON can hold, without passwords and without NaN, which most readers reject."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return redacted(value) if isinstance(value, str) else value


_formatwarning = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if issubclass(category, LabWarning):
        return f"Warning: {redacted(str(message))}\n"
    return _formatwarning(message, category, filename, lineno, line)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a Python warning; a `LabWarning` needs no place in the code."""
    place = "" if issubclass(category, LabWarning) else f" ({category.__name__}, {filename}:{lineno})"
    logging.getLogger("py.warnings").warning(
        "%s%s", message, place, extra=event("warning", category=category.__name__)
    )


def _uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    logging.getLogger("lab").critical(
        "%s: %s", kind.__name__, error, exc_info=(kind, error, traceback), extra=event("crashed")
    )


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
