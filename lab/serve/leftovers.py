"""Ends what a `lab serve` that was killed has left running, and removes what would keep PostgreSQL from starting."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

from lab.serve.home import Home
from lab.serve.mlflow_common import COOKIE

__all__ = ["end_leftovers"]

_SECONDS = 30.0
_PID_FILE = "postmaster.pid"


def end_leftovers(home: Home) -> bool:
    """End the processes of a folder's server, MLflow first; return whether there were any.

    PostgreSQL's file with the number of its process is removed: after a reboot, another program may have that number.
    """
    mlflow = list(_processes(lambda each: each.environ().get(COOKIE) == str(home.server)))
    _end(mlflow, signal.SIGTERM)
    postgres = list(
        _processes(lambda each: _is_postgres(each) and each.cwd() == str(home.postgres.resolve()))
    )
    _end(postgres, signal.SIGINT)
    (home.postgres / _PID_FILE).unlink(missing_ok=True)
    return bool(mlflow or postgres)


def _processes(belongs: Callable[[psutil.Process], bool]) -> Iterator[psutil.Process]:
    own = psutil.Process()
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended, or of another user
            if each != own and belongs(each):
                yield each


def _is_postgres(process: psutil.Process) -> bool:
    return process.name() == "postgres"


def _end(processes: list[psutil.Process], number: signal.Signals) -> None:
    for each in processes:
        with suppress(psutil.Error):
            each.send_signal(number)
    _, alive = psutil.wait_procs(processes, _SECONDS)
    for each in alive:
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(alive, _SECONDS)
