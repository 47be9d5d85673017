"""Which machine this is, and which process on it: names that no other machine or process has."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

import psutil

__all__ = ["machine", "process_name", "system"]


@cache
def machine() -> str:
    """Return a name of this boot of this machine, by which containers on it know each other; hosts may share a name."""
    try:
        return _short(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    except OSError:  # not Linux
        return _short(socket.gethostname())


@cache
def system() -> str:
    """Return what processes that can see each other have in common: a boot of a machine, and a namespace on it.

    Empty where the system does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # not a path
    except OSError:
        return ""
    return _short(f"{boot}{namespace}")


def process_name() -> str:
    """Return `HOST:PID:CREATED`, with the time when this process started, and `:SYSTEM` if that is known.

    A process keeps its name, even if the host gets another one: its trials are known by it.
    """
    return _process_name(os.getpid())  # a fork is another process


@cache
def _process_name(pid: int) -> str:
    name = f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"
    return f"{name}:{system()}" if system() else name


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
