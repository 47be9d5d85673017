"""What runs in a worker's process, and when it stops."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection

from lab import logs
from lab.children import set_share
from lab.engines.devices import VISIBLE
from lab.engines.surroundings import Surroundings
from lab.letters import write_any_letter
from lab.stopping import Stop
from lab.study import Event, WorkerSettings, work

__all__ = ["Broken", "worker_main"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Broken:
    """The last message of a worker process: the error that ends it."""

    error: str


def worker_main(
    settings: WorkerSettings,
    events: Connection,
    gpu: str | None,
    form: str | None,
    surroundings: Surroundings,
    share: Fraction,
) -> None:
    """Work until nothing is left, SIGTERM comes, or the process that started this one has exited.

    Args:
        settings: the study and the stores.
        events: the pipe to the process that started this one.
        gpu: the GPU to use, as `CUDA_VISIBLE_DEVICES` names it; None without any.
        form: how to log, as that process does; None if it does not.
        surroundings: of that process.
        share: of this machine, that the worker may use.
    """
    write_any_letter()
    set_share(share)
    logs.one_line_warnings()
    if form is not None:
        logs.configure(form)
    stop = Stop()

    def emit(event: Event) -> None:
        try:
            events.send(event)
        except OSError:  # no process listens any more
            stop.ask()

    signal.signal(signal.SIGTERM, lambda _signal, _frame: stop.ask())
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the terminal sends Ctrl-C to all; the supervisor answers it
    parent = multiprocessing.parent_process()
    try:
        surroundings.enter()
        if gpu is not None:
            os.environ[VISIBLE] = gpu
        work(settings, emit, lambda: stop() or (parent is not None and not parent.is_alive()))
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
