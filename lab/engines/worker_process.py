"""A worker's process: what runs in it, and when it stops."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from lab import logs
from lab.engines.surroundings import Surroundings
from lab.letters import write_any_letter
from lab.study import Event, WorkerSettings, work

__all__ = ["Broken", "worker_main"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Broken:
    """The last that a worker process has to say: the error that ends it."""

    error: str


def worker_main(
    settings: WorkerSettings,
    events: Connection,
    gpu: int | None,
    form: str | None,
    surroundings: Surroundings,
) -> None:
    """Work until nothing is left, SIGTERM comes, or the sweep that started this process is no more.

    Args:
        settings: the study and the stores.
        events: the pipe to the sweep.
        gpu: index of the CUDA device to use, None without any.
        form: how to log, as the process that started this one does; None if that does not.
        surroundings: of that process.
    """
    write_any_letter()
    if form is not None:
        logs.configure(form)
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
    try:
        surroundings.enter()
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
        work(settings, emit, lambda: stopping or (parent is not None and not parent.is_alive()))
    except Exception as error:
        with suppress(OSError):
            events.send(Broken("".join(traceback.format_exception_only(error)).strip()))
        if form is None:
            raise
        # multiprocessing would print the traceback past the log
        _LOGGER.critical("A worker process broke down", exc_info=True, extra=_crashed(settings))
        sys.exit(1)


def _crashed(settings: WorkerSettings) -> dict[str, object]:
    return logs.event("crashed", study=settings.study)
