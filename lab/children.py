"""How processes of this machine are started: forked from a server without threads, deaf to Ctrl-C, without the script.

Also which share of the machine this process may use beside others that do the same.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from multiprocessing import forkserver, resource_tracker
from types import ModuleType
from typing import Any

__all__ = [
    "child_context",
    "set_share",
    "share",
    "share_of_cores",
    "single_threaded_imports",
    "without_script",
]

_share = Fraction(1)
_preloaded: dict[str, None] = {}  # in this order


def child_context(preloaded: Sequence[str]) -> Any:
    """Return the cheapest start method that is safe with torch's threads, and prepare it.

    The server that processes are forked from is started by the first call, and inherited by them.

    Args:
        preloaded: modules that the server imports once, besides those of earlier calls, if this starts it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    _preloaded.update(dict.fromkeys(preloaded))
    context.set_forkserver_preload(list(_preloaded))
    with _without_this_folder():
        resource_tracker.ensure_running()  # starting it below would unblock SIGINT
        with single_threaded_imports(), _interrupts_blocked(), without_script():
            forkserver.ensure_running()  # imports while this process goes on
    return context


def set_share(fraction: Fraction) -> None:
    """Say which fraction of this machine this process may use; all of it unless something else is said."""
    global _share
    _share = fraction


def share() -> Fraction:
    """Return which fraction of this machine this process may use."""
    return _share


def share_of_cores() -> int:
    """Return how many cores this process may use, given its affinity, container quota and share; at least 1."""
    import joblib  # here, as a sweep and `lab check` import this module and would wait for it

    return max(1, int(joblib.cpu_count() * _share))


@contextmanager
def without_script() -> Iterator[None]:
    """Keep multiprocessing from running this program's script in processes that are started inside the block."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def single_threaded_imports() -> Iterator[None]:
    """Start the numeric libraries of child processes with one thread; torch is told its own number later."""
    with _environment("1", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        yield


def _without_this_folder() -> AbstractContextManager[None]:
    """Keep Python's servers from importing what lies in the current folder, such as a `torch.py`.

    Python starts them with `-c`, which puts that folder first, and until 3.13 they ignore the path of this process.
    """
    return _environment("1", "PYTHONSAFEPATH")


@contextmanager
def _environment(value: str, *names: str) -> Iterator[None]:
    """Give processes that are started inside the block these variables."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, value))
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start child processes with Ctrl-C blocked: the terminal sends it to all, but only this process answers it."""
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    except AttributeError:  # Windows
        yield
        return
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
