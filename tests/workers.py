"""The processes that a program has forked: its workers, and what loads their images."""

from __future__ import annotations

import os

import psutil

__all__ = ["forked"]


def forked(by: int | None = None) -> list[psutil.Process]:
    """Return the living processes that were forked from the server of processes of `by`; None for this process.

    Other children, such as an MLflow server, have children too.
    """
    found: list[psutil.Process] = []
    try:
        for server in psutil.Process(os.getpid() if by is None else by).children():
            if "multiprocessing.forkserver" in " ".join(server.cmdline()):
                found += [each for each in server.children() if each.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:  # one of them ended while it was asked
        pass
    return found
