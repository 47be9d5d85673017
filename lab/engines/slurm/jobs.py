"""Jobs through submitit: of Slurm, or processes of its local executor, which run the same code."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from lab.engines.slurm import queue as slurm_queue
from lab.engines.slurm.queue import Job, SilentError
from lab.errors import ConfigError, LabError, ResourceError
from lab.extras import require
from lab.registry import suggest

__all__ = ["Jobs", "LocalJobs", "SlurmJobs", "log_of", "make_folder", "unwritable"]

_LOOK_SECONDS = 5.0  # between calls of squeue
_DEATH_SECONDS = 40.0  # for jobs that were cancelled to be gone; Slurm's KillWait is 30 by default
_MOST_IN_ARRAY = 1000  # Slurm's MaxArraySize is 1001 by default
_LIMIT = re.compile(r"\w*(Max|Grp)\w*Submit\w*")


class Jobs(Protocol):
    """What runs jobs.

    Attributes:
        late_seconds: how long after a job has ended its last line may still come.
    """

    late_seconds: float

    def submit(self, name: str, run: Callable[[Any], None], orders: Sequence[Any]) -> Iterator[str]:
        """Submit a job for each order, and yield their ids as they become known; the last may be refused alone.

        Raises:
            SilentError: it cannot be done now.
            LabError: it cannot be done.
        """

    def look(self) -> Mapping[str, Job] | None:
        """Return the jobs there are, by id; None if it is too early to look again. May raise `SilentError`."""

    def stop(self, ids: Sequence[str]) -> None:
        """Ask those that run to stop, and cancel those that do not. May raise `SilentError`."""

    def kill(self, ids: Sequence[str]) -> None:
        """End jobs at once, and wait until they are gone, but not for ever."""

    def exit_code(self, job: str) -> int | None:
        """Return what an ended job ended with, -N if signal N ended it; None if that is not known."""


class SlurmJobs:
    """Jobs of Slurm; those of one submission are an array.

    Args:
        folder: for logs and pickles, on a file system that the nodes share.
        options: of submitit's Slurm executor, and its `python`.
        requeue: whether Slurm may run a job again, on another node.

    Raises:
        ConfigError: an option cannot be used.
        LabError: Slurm's commands or submitit are not here.
    """

    late_seconds = (
        20.0  # NFS shows a new line after up to a minute if its attributes are cached, but asks on opening
    )

    def __init__(self, folder: Path, options: Mapping[str, Any], *, requeue: bool = False) -> None:
        slurm_queue.check_commands()
        self._folder = folder
        self._options = _slurm_options(options, requeue=requeue)
        self._looked = 0.0  # when it is time to do so again
        self._answer: Future[dict[str, Job]] | None = None
        _executor("SlurmExecutor", folder, self._options)  # what is wrong with an option is said at once

    def submit(self, name: str, run: Callable[[Any], None], orders: Sequence[Any]) -> Iterator[str]:
        """Submit a job, or an array of them, or several where Slurm takes no larger ones; yield the jobs' ids."""
        options = {"job_name": name, "array_parallelism": len(orders)} | self._options
        for start in range(0, len(orders), _MOST_IN_ARRAY):
            with _submitting(self._folder):
                executor = _executor("SlurmExecutor", self._folder, options)
                jobs = executor.map_array(run, list(orders[start : start + _MOST_IN_ARRAY]))
            yield from (job.job_id for job in jobs)

    def look(self) -> Mapping[str, Job] | None:
        """Ask Slurm, but not more often than every few seconds, and without waiting for the answer."""
        if self._answer is None and time.monotonic() >= self._looked:
            self._answer = _asked(slurm_queue.jobs)
        if self._answer is None or not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        self._looked = time.monotonic() + _LOOK_SECONDS
        return answer.result()

    def stop(self, ids: Sequence[str]) -> None:
        """Cancel what is pending, and send SIGTERM to what runs; Slurm knows best which is which."""
        slurm_queue.cancel(ids, pending=True)
        slurm_queue.signal_jobs(ids, "TERM", full=self._options.get("use_srun") is False)
        self._looked = 0.0  # to see soon what has come of it

    def kill(self, ids: Sequence[str]) -> None:
        """Kill and cancel jobs; if Slurm does not answer, they are left to it.

        Cancelling alone would be SIGTERM at first, and SIGKILL only after Slurm's KillWait.
        """
        end = time.monotonic() + _DEATH_SECONDS
        told = False
        while time.monotonic() < end:
            with suppress(SilentError):
                if not told:
                    slurm_queue.signal_jobs([f"{job}.0" for job in ids], "KILL")
                    slurm_queue.cancel(ids)
                    told = True
                known = slurm_queue.jobs()
                if all(job not in known or known[job].has_ended for job in ids):
                    return
            time.sleep(1.0)

    def exit_code(self, job: str) -> int | None:
        """Ask Slurm."""
        return slurm_queue.exit_code(job)


class LocalJobs:
    """Jobs of submitit's local executor: processes of this machine.

    Args:
        folder: for logs and pickles.
        options: of which `python`, `setup`, `time` and `signal_delay_s` count.
    """

    late_seconds = 0.0

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._options = _local_options(options)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        _executor("LocalExecutor", folder, self._options)

    def submit(self, name: str, run: Callable[[Any], None], orders: Sequence[Any]) -> Iterator[str]:
        """Start the processes, and yield their ids."""
        with _submitting(self._folder):
            jobs = _executor("LocalExecutor", self._folder, self._options).map_array(run, list(orders))
        for job in jobs:
            self._processes[job.job_id] = job._process
        yield from (job.job_id for job in jobs)

    def look(self) -> Mapping[str, Job] | None:
        """Return what runs, and what has ended since the last look."""
        found = {}
        for job, process in list(self._processes.items()):
            ended = process.poll() is not None
            found[job] = Job("ENDED" if ended else "RUNNING", node=os.uname().nodename)
            if ended:
                del self._processes[job]
        return found

    def stop(self, ids: Sequence[str]) -> None:
        """Send SIGTERM to the workers; to a job that has none yet, itself."""
        for process in self._of(ids):
            # a controller passes the signal on, but the shell of `setup` does not
            for one in process.children(recursive=True) or [process]:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGTERM)

    def kill(self, ids: Sequence[str]) -> None:
        """Kill the processes with all that they have started."""
        family = [one for process in self._of(ids) for one in (process, *process.children(recursive=True))]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for job in ids:
            if job in self._processes:
                self._processes.pop(job).wait()
        psutil.wait_procs(family, _DEATH_SECONDS)

    def exit_code(self, job: str) -> int | None:
        """Return nothing: a controller does not tell what its worker ended with."""
        return None

    def _of(self, ids: Sequence[str]) -> Iterator[psutil.Process]:
        for job in ids:
            with suppress(psutil.NoSuchProcess):
                if job in self._processes:
                    yield psutil.Process(self._processes[job].pid)


def log_of(folder: Path, job: str) -> Path:
    """Return the file that a job logs to."""
    return folder / f"{job}_0_log.out"


def _slurm_options(options: Mapping[str, Any], *, requeue: bool) -> dict[str, Any]:
    """Return options with lab's defaults in place of submitit's."""
    again = {"requeue": True} if requeue else {"no-requeue": True}
    more = again | dict(options.get("additional_parameters") or {})
    # without a time, the partition's own; and no wckey, which Slurm may refuse
    ours: dict[str, Any] = {"time": None, "wckey": None, "stderr_to_stdout": True}
    given = dict(options)
    if given.get("exclusive") is False:
        del given["exclusive"]
    if given.get("use_srun") is False:  # the script, which then waits for the worker, gets its signals too
        given["setup"] = ["trap '' TERM USR2", *(given.get("setup") or [])]
    return ours | given | {"additional_parameters": more}


def _local_options(options: Mapping[str, Any]) -> dict[str, Any]:
    names = ("python", "setup", "signal_delay_s")
    ours = {name: options[name] for name in names if options.get(name) is not None}
    return ours | {"timeout_min": options.get("time") or 60 * 24 * 365, "stderr_to_stdout": True}


def _asked(question: Callable[[], dict[str, Job]]) -> Future[dict[str, Job]]:
    """Ask in a thread; one that hangs does not keep this process from exiting."""
    answer: Future[dict[str, Job]] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except Exception as error:  # noqa: BLE001  # whoever takes the answer gets it
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer


def _executor(kind: str, folder: Path, options: Mapping[str, Any]) -> Any:
    """Return one of submitit's executors."""
    given = dict(options)
    executor = getattr(require("submitit", "slurm", "Slurm"), kind)(
        folder=folder, max_num_timeout=0, python=given.pop("python", None)
    )
    try:
        executor.update_parameters(**given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"An option of the jobs cannot be used: {str(error).splitlines()[0]}") from None
    return executor


@contextmanager
def _submitting(folder: Path) -> Iterator[None]:
    """Submit in the block, and say in lab's words why that fails."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.helpers import clean_env

    make_folder(folder)
    before = set(folder.iterdir())
    try:
        with redirect_stderr(io.StringIO()), _unnested(clean_env):  # submitit prints what it raises
            yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        for file in set(folder.iterdir()) - before:
            with suppress(OSError):
                file.unlink()
        raise (unwritable(folder, error) if isinstance(error, OSError) else _refusal(str(error))) from None


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can read.

    Raises:
        ResourceError: that cannot be done.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None


@contextmanager
def _unnested(clean_env: Any) -> Iterator[None]:
    """Hide the job that this process runs in from the jobs that it submits, but not which cluster that is."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    kept = {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield


def _refusal(said: str) -> Exception:
    """Return why sbatch has failed: for now, or for good."""
    lines = [re.sub(r"^sbatch:( error:)?\s*", "", line.strip()) for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Try ")]
    quoted = "; ".join(dict.fromkeys(lines)) or "sbatch was ended"
    if limit := _LIMIT.search(said):
        return SilentError(f"you have as many jobs queued as Slurm allows ({limit[0]})")
    if slurm_queue.is_silence(said) or not lines:
        return SilentError(quoted)
    return LabError(f"Slurm refuses the job: {quoted}. {_advice(said)}")


def _advice(said: str) -> str:
    text = said.lower()
    if "partition name" in text or "partition specified" in text:
        return _partitions(said)
    if "qos" in text or "account" in text:
        return "Check `account` and `qos`: `sacctmgr show associations user=$USER` lists yours"
    if "--time" in text or "time limit" in text:
        return "Check `time`: `sinfo --format='%P %l'` shows each partition's limit"
    if any(
        word in text
        for word in ("node configuration", "memory", "gres", "feature", "processors", "node count")
    ):
        return (
            "Ask for less, or in another partition: `sinfo --Node --format='%P %c %m %G %f'` shows the CPUs, memory, "
            "GPUs and features of nodes"
        )
    return "Check the options of the profile, --job and --partition"


def _partitions(said: str) -> str:
    known = slurm_queue.partitions()
    if not known:
        return "`sinfo` lists the partitions"
    found = re.search(r"partition specified: (\S+)", said)
    close = suggest(found[1], known).strip() if found else ""
    return f"{close} The partitions are {', '.join(known)}".strip()


def unwritable(folder: Path, error: OSError) -> LabError:
    """Return what to tell about a folder that jobs cannot be prepared in."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"{folder}: the disk is full; make room there, or work in another folder")
    return ResourceError(f"Jobs cannot be prepared in {folder}: {error.strerror or error}")
