"""The processes that a program has forked: its workers, and what loads their images."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

__all__ = ["forked", "kill"]


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
