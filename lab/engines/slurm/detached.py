"""Workers that outlive who submits them: each job runs the service for some studies, and requeues itself."""

from __future__ import annotations

import os
import socket
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lab.engines.node import Origin, checked
from lab.engines.processes import ProcessLauncher
from lab.engines.seats import Seat
from lab.engines.serving import serve
from lab.engines.slurm.job import begin, from_plain, leave, log, plain, wall_time, watch
from lab.engines.slurm.jobs import Jobs, LocalJobs, SlurmJobs
from lab.engines.slurm.launcher import stop_delay
from lab.engines.slurm.queue import SilentError, find_job, id_here, requeue
from lab.engines.stores import Stores
from lab.errors import LabError
from lab.stopping import Stop
from lab.study import EpochEnded, Event, TrialQueue, WorkerSettings, find_queue

__all__ = ["serve_study", "submit_detached"]

_IDLE_SECONDS = 60.0
_RETRIES, _RETRY_SECONDS = 6, 10.0  # of a submission, and of a job's requeuing of itself


def submit_detached(
    folder: Path,
    workers: int,
    options: Mapping[str, Any],
    origin: Origin,
    stores: Stores,
    studies: Sequence[str],
    cluster: str = "slurm",
) -> list[str]:
    """Submit an array of jobs that train what waits in studies, and conclude them, without this process.

    A job that nears its time limit or is preempted puts its trial back and requeues itself if trials are left; it ends
    when nothing has waited for a minute. Cancelled, it puts its trial back and does not come again.

    Args:
        folder: for logs and pickles, on a file system that all nodes share.
        workers: how many jobs, with one worker each.
        options: of submitit's Slurm executor, and its `python`.
        origin: this process.
        stores: where the studies are.
        studies: their names, each after those that it needs.
        cluster: `slurm`, or `local` for processes of this machine, which nobody requeues.

    Returns:
        The ids of the jobs.

    Raises:
        ConfigError: an option cannot be used.
        LabError: Slurm refuses the jobs, or does not answer for a minute.
    """
    delay = stop_delay(options)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    within, chosen = folder.expanduser().absolute() / stamp, {**options, "signal_delay_s": int(delay)}
    jobs: Jobs = LocalJobs(within, chosen) if cluster == "local" else SlurmJobs(within, chosen, requeue=True)
    minutes = options.get("time") or None
    order = {
        "stores": plain(asdict(stores)),
        "studies": list(studies),
        "origin": asdict(origin),
        "seconds": None if minutes is None else minutes * 60.0,
        "delay": delay,
    }
    return _submitted(jobs, f"lab-{studies[-1]}", [order] * workers)


def _submitted(jobs: Jobs, name: str, orders: list[Any]) -> list[str]:
    ids: list[str] = []
    for _ in range(_RETRIES):
        try:
            for job in jobs.submit(name, serve_study, orders[len(ids) :]):
                ids.append(job)
        except SilentError as error:
            said = error
            time.sleep(_RETRY_SECONDS)
        else:
            return ids
    taken = f" It has taken {len(ids):,} of {len(orders):,}, which train them." if ids else ""
    raise LabError(
        f"Slurm takes no jobs now: {said}.{taken} The cells are queued; run the same command again later"
    )


def serve_study(order: Mapping[str, Any]) -> None:
    """Run the service in a job; this ends the process.

    Args:
        order: `stores` (its fields, `plain`), `studies`, `origin` (its fields), `seconds` and `delay`: how long the job
            may run, and how long before its end the service stops.
    """
    stop, warning = begin()
    code = 0
    try:
        stores = Stores(**from_plain(order["stores"]))
        _serve(order, stores, stop, warning)
        if stop() and _are_left(stores, order["studies"]):
            _requeue_this()
        else:
            _forget_this()
    except LabError as error:
        log(f"Error: {error}")
        code = 1
    except Exception:  # noqa: BLE001  # it ends here
        traceback.print_exc()
        code = 1
    leave(code)


class _TimedLauncher(ProcessLauncher):
    """Starts processes that know until when this job may work."""

    def __init__(self, until: float | None) -> None:
        super().__init__()
        self._until = until

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Start a worker; return its number."""
        return super().start(replace(settings, until=self._until), seat)


def _serve(order: Mapping[str, Any], stores: Stores, stop: Stop, warning: Stop) -> None:
    origin = Origin(**order["origin"])
    origin.enter()
    checked(origin, stores.for_worker(order["studies"][-1]), stop)
    until = wall_time(order["seconds"], order["delay"])
    watch(stop, warning, until, order["delay"])
    job = id_here(os.environ) or os.getpid()
    log(f"Job {job} on node {socket.gethostname()} trains {order['studies'][-1]}")
    serve(
        stores,
        studies=order["studies"],
        workers=1,
        launcher=_TimedLauncher(until),
        idle_exit=_IDLE_SECONDS,
        on_event=_tell,
        on_trouble=log,
        should_stop=stop,
    )


def _are_left(stores: Stores, studies: Sequence[str]) -> bool:
    """Return whether trials of the studies are left, as far as can be told."""
    try:
        queues = [find_queue(stores.storage, study) for study in studies]
        return any(queue is not None and not queue.is_over() for queue in queues)
    except LabError:  # the database is away
        return True


def _requeue_this() -> None:
    """Requeue this job, unless it is being cancelled."""
    job = id_here(os.environ)
    if job is None:
        return
    for _ in range(_RETRIES):
        try:
            state = find_job(job).state
            if state == "RUNNING":
                log(f"Trials are left: job {job} requeues itself")
                requeue(job)  # this ends it
            else:
                log(f"Trials are left, but job {job} is {state}: it does not requeue itself")
            return
        except SilentError as error:
            log(f"Slurm does not answer: {error}")
            time.sleep(_RETRY_SECONDS / 2)


def _forget_this() -> None:
    """Delete what this job was started with."""
    from submitit import JobEnvironment

    with suppress(OSError, KeyError, RuntimeError):
        JobEnvironment().paths.submitted_pickle.unlink()


def _tell(queue: TrialQueue, event: Event) -> None:
    if not isinstance(event, EpochEnded):
        log(f"{queue.name}: {event}")
