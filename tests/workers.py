"""The processes that a program has forked: its workers, and what loads their images."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["asleep", "forked", "kill"]


def forked(by: int | None = None) -> list[psutil.Process]:
    """Return the living processes that were forked from the server of processes of `by`; None for this process.

    Other children, such as an MLflow server, have children too.
    """
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(os.getpid() if by is None else by).children():
            with suppress(psutil.NoSuchProcess):  # it ended while it was asked; the others did not
                if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                    found += [each for each in child.children() if _lives(each)]
    return found


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(process: psutil.Process) -> None:
    """Kill a process, if it has not ended by itself since it was found."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


@contextmanager
def asleep(process: psutil.Process, *databases: Path) -> Iterator[None]:
    """Let a process sleep during the block, at a moment in which it has locked none of these SQLite databases."""
    try:
        _stop(process)
        while not all(_can_be_written(each) for each in databases):
            process.resume()
            time.sleep(0.01)
            _stop(process)
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _stop(process: psutil.Process) -> None:
    process.suspend()
    while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):  # it runs on for a moment
        time.sleep(0.001)


def _can_be_written(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
    return True
