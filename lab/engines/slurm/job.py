"""What runs in a job of Slurm, or of submitit's local executor: one worker; and what any job does around its work.

A job is given plain values only, so that a node with other versions can still say what is wrong.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import logs
from lab.engines.devices import VISIBLE
from lab.engines.node import Origin, work_on_node
from lab.engines.slurm.event_files import EventWriter
from lab.engines.slurm.queue import seconds_left
from lab.identity import ProcessName
from lab.letters import write_any_letter
from lab.stopping import Stop
from lab.study import EpochEnded, Event, WorkerSettings, event_values

__all__ = [
    "BEGAN",
    "EXITED",
    "begin",
    "from_plain",
    "leave",
    "log",
    "plain",
    "run_worker",
    "stop_on_signals",
    "wall_time",
    "watch",
]

BEGAN, EXITED = "began", "exited"  # the keys of a worker's first and last line
_PATHS = ("artifact_dir", "checkpoint_dir", "journal_dir", "server_file")
_LOOK_SECONDS = 1.0  # between looks at the clock and at the process that submitted the job
_EARLY_SECONDS = 65.0  # that Slurm may send a signal too early
_DISK_SECONDS = 60.0  # for a full disk to take a worker's last lines


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of settings or stores with text in place of paths, whose pickles differ between Pythons."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}


def from_plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that `plain` was given."""
    return {
        name: Path(value) if name in _PATHS and value is not None else value for name, value in fields.items()
    }


def run_worker(order: Mapping[str, Any]) -> None:
    """Work until nothing is left, a signal comes or the wall time nears its end; this ends the process.

    Args:
        order: `settings` (its fields, `plain`), `origin` (its fields), `events` (a file), `gpu` (for
            `CUDA_VISIBLE_DEVICES`, or None), `submitter` (the process without which it stops, or None), and
            `seconds` and `delay`: how long the job may run, and how long before its end the worker stops.
    """
    stop, warning = begin()
    events = EventWriter(Path(order["events"]))
    events.write({BEGAN: socket.gethostname(), "pid": os.getpid()})
    code, error = 0, ""
    try:
        _work(order, events, stop, warning)
    except Exception as raised:  # noqa: BLE001  # it ends here
        traceback.print_exc()
        code, error = 1, "".join(traceback.format_exception_only(raised)).strip()
    events.write({EXITED: code, "error": error})
    events.close(_DISK_SECONDS)
    leave(code)


def begin() -> tuple[Stop, Stop]:
    """Set up this process, and return its stop and its warning: see `stop_on_signals`."""
    asked = stop_on_signals()
    write_any_letter()
    logs.configure("text")
    return asked


def stop_on_signals() -> tuple[Stop, Stop]:
    """Return the stop that SIGTERM asks for, and the warning that SIGUSR2 is, in place of what submitit does on them.

    SIGTERM comes when a job is preempted or cancelled, SIGUSR2 before its time limit.
    """
    stop, warning = Stop(), Stop()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stop.ask())
    signal.signal(signal.SIGUSR2, lambda _signal, _frame: warning.ask())
    signal.signal(signal.SIGCONT, lambda _signal, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a local job has the terminal of who started it
    return stop, warning


def wall_time(seconds: float | None, delay: float) -> float | None:
    """Return until when this job may work, in seconds since 1970; None without a limit.

    Args:
        seconds: how long it may run, if that is known from elsewhere than Slurm.
        delay: seconds that stopping may take.
    """
    left = _seconds_left()
    left = seconds if left is None else left
    return None if left is None else time.time() + left - min(delay, left / 4)


def watch(
    stop: Stop, warning: Stop, until: float | None, delay: float, submitter: ProcessName | None = None
) -> None:
    """Ask for the stop, from a thread, when the time comes or the process that submitted this job has exited."""

    def look() -> None:
        end = math.inf if until is None else until
        heeded = False
        while not stop.wait(_LOOK_SECONDS):
            if warning() and not heeded:
                heeded, end = True, min(end, _end_after_warning(until, delay))
            if time.time() >= end or (submitter is not None and submitter.is_dead()):
                stop.ask()

    threading.Thread(target=look, daemon=True).start()


def _end_after_warning(until: float | None, delay: float) -> float:
    """Return when to stop that was warned, in seconds since 1970.

    Slurm warns of a time limit up to a minute too early, which is not to be wasted. A warning that comes long before
    is one of preemption (`PreemptParameters=send_user_signal`).
    """
    now, left = time.time(), _seconds_left()
    if left is None and until is not None:
        left = until - now + delay
    if left is None or left > delay + _EARLY_SECONDS:
        return now
    return now + left - delay


def _seconds_left() -> float | None:
    return seconds_left(os.environ, time.time()) if "SLURM_JOB_ID" in os.environ else None


def _work(order: Mapping[str, Any], events: EventWriter, stop: Stop, warning: Stop) -> None:
    if order["gpu"] is not None:
        os.environ[VISIBLE] = order["gpu"]
    until = wall_time(order["seconds"], order["delay"])
    settings = replace(WorkerSettings(**from_plain(order["settings"])), until=until)
    watch(stop, warning, until, order["delay"], ProcessName.parse(order["submitter"] or ""))

    def emit(event: Event) -> None:
        if not isinstance(event, EpochEnded):
            log(str(event))
        events.write(event_values(event))

    work_on_node(Origin(**order["origin"]), settings, emit, stop)


def log(text: str) -> None:
    """Write a line to this job's log, without passwords."""
    print(f"{time.strftime('%H:%M:%S')}  {logs.redacted(text)}", flush=True)


def leave(code: int) -> None:
    """End this process: submitit would write a result that nobody reads, and Python takes seconds to end torch."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
