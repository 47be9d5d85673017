"""A worker on another machine: where it came from, and what is checked there before it claims a trial.

An engine copies `Origin` to the node as plain values. It holds no secrets: credentials come from the file that
`lab serve` writes, on a file system that the nodes share, or from the environment of the job.
"""

from __future__ import annotations

import os
import platform
import socket
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lab import study as studies  # asked for what these have only when that is needed: torch takes seconds
from lab import tracking
from lab.engines.surroundings import add_names, pickled_names
from lab.errors import LabError, LabWarning, ResourceError, StudyError, TrackingError
from lab.places import sqlite_file
from lab.server_file import read_server_file
from lab.study import Event, WorkerFailed, WorkerSettings

__all__ = ["Origin", "checked", "work_on_node"]

_SERVER_SECONDS = 60.0  # for a restarting server to answer, and a shared file system to show a new file
_PAUSE_SECONDS = 2.0  # before a server is asked again
_MOST_AHEAD = 30.0  # seconds that two clocks may differ by
_INHERITED = ("LAB_CACHE_DIR", "LAB_COMMIT", "LAB_DATA_DIR")
_SAME = "use the same environment on both (`python` of a Slurm profile, `runtime_env` of Ray)"


@dataclass(frozen=True)
class Origin:
    """The machine, the folder and the software that a worker was started from; plain values without secrets.

    Args:
        lab: version of lab.
        python: version of Python, as `3.12`.
        torch: version of torch.
        host: name of the machine.
        folder: working directory.
        server_file: what `lab serve` wrote; empty without one.
        names: what a program has added to the registry, pickled.
        environment: variables that say where data is.
    """

    lab: str
    python: str
    torch: str
    host: str
    folder: str
    server_file: str
    names: bytes
    environment: dict[str, str]

    @classmethod
    def here(cls, server_file: Path | None = None) -> Self:
        """Return that of this process.

        Args:
            server_file: from which its stores are known, if it is from one.

        Raises:
            ConfigError: an object registered under a name cannot be sent to another process.
        """
        folder = ""
        with suppress(FileNotFoundError):  # it was deleted
            folder = str(Path.cwd())
        return cls(
            *_versions(),
            socket.gethostname(),
            folder,
            "" if server_file is None else os.path.abspath(server_file),  # noqa: PTH100  # without resolving links
            pickled_names(),
            {name: os.environ[name] for name in _INHERITED if name in os.environ},
        )

    def enter(self) -> None:
        """Give this process what it needs of all that; the folder only if it is there.

        Raises:
            LabError: lab or Python has another version here, or a registered name cannot be loaded.
        """
        self._check_versions()
        with suppress(OSError):
            os.chdir(self.folder)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        if self.server_file and Path(self.server_file).exists():
            read_server_file(Path(self.server_file)).use()
        try:
            add_names(self.names)
        except Exception as error:  # whatever a module of the user's raises
            raise ResourceError(
                f"{_node()} cannot load a name that your program has registered: {type(error).__name__}: {error}. "
                "Install its module there, or start lab in a folder that the nodes share"
            ) from error

    def _check_versions(self) -> None:
        lab, python, torch = _versions()
        for what, here, there in (("lab", lab, self.lab), ("Python", python, self.python)):
            if here != there:
                raise ResourceError(
                    f"{_node()} has {what} {here}, but {self.host}, where this was started, has {there}; {_SAME}"
                )
        # not an error: a login node, which trains nothing, may have another build than the nodes have in common
        if torch != self.torch:
            warnings.warn(
                f"{_node()} has torch {torch}, but {self.host}, where this was started, has {self.torch}. A trial is "
                "continued bit for bit only where torch is the same as before",
                LabWarning,
                stacklevel=3,
            )


def checked(
    origin: Origin,
    settings: WorkerSettings,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    seconds: float = _SERVER_SECONDS,
) -> None:
    """Check that a worker can work on this machine, whose surroundings must be those of `origin` (`enter`).

    Args:
        origin: where it was started.
        settings: its stores.
        should_stop: True ends the waiting for a server.
        seconds: how long a server, and the file that says how to reach it, may take to be there.

    Raises:
        LabError: it cannot; names this machine and says what to do.
    """
    _check_folders(settings)
    if settings.journal_dir is not None:
        _check_journals(settings.journal_dir)
    if sqlite_file(settings.storage) is not None:
        _check_file(origin, settings.storage)
        return
    patience = _Patience(seconds, should_stop)
    _await_server_file(origin, patience)
    ahead = _await_database(settings.storage, patience)
    _await_tracking(settings, patience)
    if abs(ahead) > _MOST_AHEAD:
        way = "ahead of" if ahead > 0 else "behind"
        raise ResourceError(
            f"{_node()}: its clock is {abs(ahead):,.0f} s {way} the study database's, so a time limit would be "
            "misjudged; set it (timedatectl set-ntp true), or leave this node out"
        )


def work_on_node(
    origin: Origin, settings: WorkerSettings, emit: Callable[[Event], None], should_stop: Callable[[], bool]
) -> None:
    """Do what `lab.study.work` does, on a machine that is checked first; `WorkerFailed` says why it is not fit."""
    try:
        origin.enter()
        checked(origin, settings, should_stop)
    except LabError as error:
        emit(WorkerFailed(str(error)))
        return
    studies.work(replace(settings, node=socket.gethostname()), emit, should_stop)


class _Patience:
    """The time that all waiting together may take."""

    def __init__(self, seconds: float, should_stop: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._should_stop = should_stop

    def __str__(self) -> str:
        return f"{self._seconds:.0f} s"

    def has_more(self) -> bool:
        """Wait a little, and return whether it is worth trying again."""
        end = min(self._end, time.monotonic() + _PAUSE_SECONDS)
        while (left := end - time.monotonic()) > 0 and not self._should_stop():
            time.sleep(min(left, 0.2))
        return time.monotonic() < self._end and not self._should_stop()


def _versions() -> tuple[str, str, str]:
    return (
        tracking.version_of("lab"),
        ".".join(platform.python_version_tuple()[:2]),
        tracking.version_of("torch"),
    )


def _node() -> str:
    return f"Node {socket.gethostname()}"


def _check_folders(settings: WorkerSettings) -> None:
    for folder in (settings.checkpoint_dir, settings.journal_dir):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ResourceError(
                f"{_node()} cannot write to {folder}: {error.strerror or error}. Start lab in a folder that the nodes "
                "share"
            ) from None


def _check_journals(folder: Path) -> None:
    try:
        tracking.try_out(folder)
    except ResourceError as error:
        raise ResourceError(f"{_node()}: {error}. Its file system must have locks (flock), too") from None


def _check_file(origin: Origin, storage: str) -> None:
    file = sqlite_file(storage)
    if origin.host != socket.gethostname() or file is None or not file.exists():
        raise StudyError(
            f"{_node()} cannot use {storage}: SQLite serves one machine, and the study is on {origin.host}. "
            "Run `lab serve --host ...` there; `lab serve --import .lab` takes along what you have"
        )


def _await_server_file(origin: Origin, patience: _Patience) -> None:
    """Wait for the credentials, unless the job has some."""
    if not origin.server_file or "PGPASSWORD" in os.environ:
        return
    file = Path(origin.server_file)
    while not file.exists():
        if not patience.has_more():
            raise StudyError(
                f"{_node()} cannot see {file}, which says how to reach the stores. Run `lab serve` in a folder that "
                "the nodes share, or give the job PGPASSWORD, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
    read_server_file(file).use()


def _await_database(storage: str, patience: _Patience) -> float:
    """Return how many seconds this machine's clock is ahead of the database's, once that answers."""
    probe = _probe(storage)
    while True:
        try:
            return probe.clock() or 0.0
        except StudyError as error:
            if studies.is_denied(error):
                raise StudyError(f"{_node()}: {error}") from None
            if not patience.has_more():
                raise StudyError(_unreachable(str(error), patience)) from None


def _probe(storage: str) -> studies.StorageProbe:
    try:
        return studies.StorageProbe(storage)
    except StudyError as error:  # an address that can never be right
        raise StudyError(f"{_node()}: {error}") from None


def _await_tracking(settings: WorkerSettings, patience: _Patience) -> None:
    """Wait for the MLflow server; without an answer, trials are kept in the journal, as during an outage."""
    if not settings.tracking_uri.startswith("http"):
        return
    while True:
        try:
            answer = tracking.ask(settings.tracking_uri)
            said = f"{settings.tracking_uri} answers with status {answer.status}: {answer.text}"
            denied = answer.status in (401, 403)
        except TrackingError as error:
            said, denied = str(error), False
        else:
            if answer.status < 400:
                return
        if denied:
            raise TrackingError(f"{_node()}: {said}")
        if not patience.has_more():
            _go_on_without(settings, said)
            return


def _go_on_without(settings: WorkerSettings, said: str) -> None:
    if settings.journal_dir is None:
        raise TrackingError(f"{_node()}: {said}")
    warnings.warn(
        f"{_node()}: {said} What trials log is kept in {settings.journal_dir} until it answers",
        LabWarning,
        stacklevel=2,
    )


def _unreachable(said: str, patience: _Patience) -> str:
    return (
        f"{_node()}: no answer within {patience}: {said.rstrip('.')}. If the server runs, it listens on an address "
        "that this node cannot reach: start it with `lab serve --host ...`"
    )
