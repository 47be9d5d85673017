"""A worker's process: what runs in it, and when it stops."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

from lab.study import Event, WorkerSettings, work

__all__ = ["worker_main"]


def worker_main(settings: WorkerSettings, events: Connection, gpu: int | None) -> None:
    """Work until nothing is left, SIGTERM comes, or the sweep that started this process is no more.

    Args:
        settings: the study and the stores.
        events: the pipe to the sweep.
        gpu: index of the CUDA device to use, None without any.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    def emit(event: Event) -> None:
        nonlocal stopping
        try:
            events.send(event)
        except OSError:  # nobody listens any more
            stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C reaches all; the sweep answers it
    parent = multiprocessing.parent_process()
    work(settings, emit, lambda: stopping or (parent is not None and not parent.is_alive()))
