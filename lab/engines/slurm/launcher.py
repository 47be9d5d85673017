"""Workers in jobs of Slurm, through submitit; or of its local executor, where there is no Slurm."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lab.engines.devices import Device, devices_here
from lab.engines.launcher import Exited
from lab.engines.node import Origin
from lab.engines.seats import Seat
from lab.engines.slurm.ends import how_it_ended, notes_on
from lab.engines.slurm.event_files import EventReader
from lab.engines.slurm.job import BEGAN, EXITED, plain, run_worker
from lab.engines.slurm.jobs import Jobs, LocalJobs, SlurmJobs, log_of, make_folder, unwritable
from lab.engines.slurm.queue import Job, SilentError
from lab.errors import ConfigError, LabError
from lab.identity import process_name
from lab.study import Event, WorkerSettings, event_from

__all__ = ["SlurmLauncher"]

_READ_SECONDS = 0.2  # between looks into the workers' files, and more for many of them
_PRESS_SECONDS = 10.0  # before a worker is asked to stop once more: a signal may come too early to be heeded
_RETRY_SECONDS = 10.0  # before jobs are submitted once more
_DELAY_SECONDS = (15.0, 90.0)  # before the time limit, to stop in: at least, at most
_UNSEEN_SECONDS = 60.0  # until a job that Slurm does not list is thought to be gone
_SOON_SECONDS = 5.0  # for what a worker wrote long before to be seen: NFS may show it three seconds late


@dataclass
class _Worker:
    """A worker; `job` is the id of its job once it is submitted.

    `seen` is how its job was last seen, and `missed` how often in a row it was not; `ended` when it was first found to
    have ended, and `late` when nothing more is to be expected of it then. `began`, `asked` and `refused` are whether it
    has said that it began, was asked to stop, and got no job.
    """

    settings: WorkerSettings
    gpu: str | None
    lines: EventReader
    job: str = ""
    seen: Job | None = None
    submitted: float = 0.0
    missed: int = 0
    began: bool = False
    asked: bool = False
    refused: bool = False
    ended: float | None = None
    late: float | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it has no place yet."""
        return not self.began and (self.seen is None or self.seen.is_pending)

    def look(self, found: Job | None) -> None:
        """Note what its engine says of its job; it is gone if it is missing twice in a row, having been there."""
        if found is None and self.seen is not None and self.seen.has_ended:
            return
        now = time.monotonic()
        self.missed = 0 if found is not None else self.missed + 1
        if found is not None:
            self.seen = found
            ended = found.has_ended
        else:
            late = now >= self.submitted + _UNSEEN_SECONDS
            ended = self.missed > 1 and (self.seen is not None or late)
        if not ended:
            self.ended = self.late = None
        elif self.ended is None:
            self.ended = now


class SlurmLauncher:
    """Runs each worker in a job: see `Launcher`.

    All workers that are started between two calls of `listen` are submitted together, as one job array. Slurm itself
    restarts none: whoever uses this starts another where one is missing.

    Args:
        folder: for what jobs and this process tell each other, and for logs; on a file system that all nodes share.
        workers: how many may run at a time.
        options: of submitit's Slurm executor under its names, and its `python`; without `time`, a job may run as long
            as the partition allows.
        origin: this process, for the workers.
        gpus: whether jobs are given GPUs.
        cluster: `local` for processes of this machine in place of Slurm's jobs.

    Raises:
        ConfigError: an option cannot be used.
        LabError: Slurm or submitit is not here.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        options: Mapping[str, Any],
        origin: Origin,
        gpus: bool = False,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._folder = folder.expanduser().absolute() / stamp
        self._most = workers
        self._origin = origin
        self._gpus = gpus
        self._is_local = cluster == "local"
        self._minutes = options.get("time") or None
        self._delay = stop_delay(options)
        options = {**options, "signal_delay_s": int(self._delay)}
        self._jobs: Jobs = (
            LocalJobs(self._folder, options) if self._is_local else SlurmJobs(self._folder, options)
        )
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._read = self._pressed = self._submitted = 0.0  # when it is time to do so again
        self._refusal = self._silence = ""  # why jobs cannot be submitted, or looked for, now
        self._keeps = False  # whether it keeps logs

    def __len__(self) -> int:
        return len(self._workers)

    def devices(self) -> Sequence[Device]:
        """Return a GPU for each worker, or one CPU for all; with `local`, what this machine has."""
        if not self._gpus:
            return [Device("cpu", workers=self._most)]
        if self._is_local:
            return devices_here()
        return [Device(f"gpu-{index}") for index in range(self._most)]

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Note that a worker is to start; return its number."""
        number = self._started
        gpu = seat.device.name if self._is_local and seat.device.is_gpu else None
        lines = EventReader(self._folder / f"{uuid.uuid4().hex}.jsonl")
        self._workers[number] = _Worker(settings, gpu, lines)
        self._started += 1
        return number

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Submit what is to start, and yield what has come from the workers, with their numbers."""
        end = time.monotonic() + timeout
        yield from self._submit()
        while True:
            heard = False
            for said in self._hear():
                heard = True
                yield said
            left = end - time.monotonic()
            if heard or left <= 0:
                return
            time.sleep(min(left, _READ_SECONDS))

    def stop(self, worker: int | None = None) -> None:
        """Ask a worker (all if None) to checkpoint, return its trial to the queue and exit."""
        for number in list(self._workers) if worker is None else [worker]:
            if number in self._workers:
                self._workers[number].asked = True
        self._pressed = 0.0  # all that are asked now are asked together, when this is listened to

    def kill(self) -> None:
        """End every worker at once; what they trained since their last checkpoints is lost."""
        ids = [worker.job for worker in self._workers.values() if worker.job]
        self._workers.clear()
        if ids:
            self._jobs.kill(ids)
        self._tidy()

    def pending(self) -> Collection[int]:
        """Return the numbers of the workers whose jobs are pending, or not submitted yet."""
        return [number for number, worker in self._workers.items() if worker.is_pending]

    def notes(self) -> Sequence[str]:
        """Return what jobs wait for, and what is wrong with Slurm."""
        trouble = [f"slurm: {said}" for said in (self._refusal, self._silence) if said]
        if self._is_local:
            return trouble
        jobs = [(worker.job, worker.seen) for worker in self._workers.values() if worker.job]
        return notes_on(jobs) + trouble

    def _submit(self) -> Iterator[tuple[int, Exited]]:
        """Submit what was started since the last time; yield the ends of those that need not or could not be."""
        for number, worker in list(self._workers.items()):
            if not worker.job and (worker.asked or worker.refused):
                yield number, self._exited(number, Exited(0))
        new = [worker for worker in self._workers.values() if not worker.job]
        if not new:
            self._refusal = ""
        if not new or time.monotonic() < self._submitted:
            return
        try:
            self._submit_all(new)
        except SilentError as error:
            self._submitted = time.monotonic() + _RETRY_SECONDS
            self._refusal = (
                f"jobs cannot be submitted now ({error}); tried again every {_RETRY_SECONDS:.0f} s"
            )
        except LabError:
            for worker in new:
                worker.refused = not worker.job
            raise

    def _submit_all(self, new: Sequence[_Worker]) -> None:
        make_folder(self._folder)
        try:
            for worker in new:
                worker.lines.create()
        except OSError as error:
            raise unwritable(self._folder, error) from None
        name = f"lab-{new[0].settings.study}"
        ids = self._jobs.submit(name, run_worker, [self._order(worker) for worker in new])
        for worker, job in zip(new, ids, strict=True):
            worker.job, worker.submitted = job, time.monotonic()
        self._refusal = ""

    def _order(self, worker: _Worker) -> dict[str, Any]:
        return {
            "settings": plain(asdict(worker.settings)),
            "origin": asdict(self._origin),
            "events": str(worker.lines.file),
            "gpu": worker.gpu,
            "submitter": process_name() if self._is_local else None,
            "seconds": None if self._minutes is None else self._minutes * 60.0,
            "delay": self._delay,
        }

    def _hear(self) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what is new: of jobs, of lines in files."""
        if time.monotonic() < self._read:
            return
        self._read = time.monotonic() + max(_READ_SECONDS, 0.005 * len(self._workers))
        self._look()
        if time.monotonic() >= self._pressed:
            self._press()
        for number, worker in list(self._workers.items()):
            if worker.job:
                yield from self._hear_one(number, worker)

    def _hear_one(self, number: int, worker: _Worker) -> Iterator[tuple[int, Event | Exited]]:
        for values in worker.lines.read():
            if number not in self._workers:  # all were killed since
                return
            if BEGAN in values:
                worker.began = True
            elif EXITED in values:
                yield number, self._exited(number, Exited(values[EXITED], values["error"]))
                return
            else:
                with suppress(ValueError):  # of another version of lab, which says more
                    yield number, event_from(values)
        if worker.ended is None or number not in self._workers:
            return
        if worker.late is None:
            worker.late = worker.ended + self._patience(worker)
        if time.monotonic() >= worker.late:
            yield number, self._exited(number, self._end_of(worker))

    def _patience(self, worker: _Worker) -> float:
        """Return for how many seconds after the end of its job a worker's lines may still come."""
        most, job = self._jobs.late_seconds, worker.seen
        if job is None:
            return most
        if not job.node:  # it never ran
            return 0.0
        code = self._jobs.exit_code(worker.job) if job.state == "FAILED" else None
        if job.state == "OUT_OF_MEMORY" or (code is not None and code < 0):  # it could not say that it ends
            return min(most, _SOON_SECONDS)
        return most

    def _look(self) -> None:
        """Note what has become of the jobs."""
        try:
            found = self._jobs.look()
        except (SilentError, LabError) as error:
            self._silence = f"Slurm does not answer ({error}); what runs goes on"
            return
        if found is None:
            return
        self._silence = ""
        for worker in self._workers.values():
            if worker.job:
                worker.look(found.get(worker.job))

    def _press(self) -> None:
        """Ask those to stop, again, that were asked to."""
        self._pressed = time.monotonic() + _PRESS_SECONDS
        asked = [worker.job for worker in self._workers.values() if worker.asked and worker.job]
        if asked:
            with suppress(SilentError):
                self._jobs.stop(asked)

    def _end_of(self, worker: _Worker) -> Exited:
        """Return how a worker ended that has not said so."""
        if worker.asked and not worker.began:
            return Exited(0)
        name = f"{'Process' if self._is_local else 'Slurm job'} {worker.job}"
        log = log_of(self._folder, worker.job)
        code = self._jobs.exit_code(worker.job)
        return how_it_ended(name, worker.seen, code, log, began=worker.began)

    def _exited(self, number: int, exited: Exited) -> Exited:
        """Forget a worker, and its files except the log of one that failed."""
        worker = self._workers.pop(number)
        files = [worker.lines.file]
        if worker.job:
            files.append(self._folder / f"{worker.job}_submitted.pkl")
        if exited.code:
            self._keeps = True
        elif worker.job:
            files.append(log_of(self._folder, worker.job))
        for file in files:
            with suppress(OSError):
                file.unlink()
        if not self._workers:
            self._tidy()
        return exited

    def _tidy(self) -> None:
        """Delete all that no worker needs any more, but logs of those that failed, and how these were submitted."""
        for file in self._folder.glob("*"):
            if not (self._keeps and file.name.endswith((".out", ".err", "_submission.sh"))):
                with suppress(OSError):
                    file.unlink()
        for folder in (self._folder, self._folder.parent):
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def stop_delay(options: Mapping[str, Any]) -> float:
    """Return how many seconds before its time limit a worker is told to stop.

    Raises:
        ConfigError: `signal_delay_s` is as long as the time limit, or nearly.
    """
    minutes: float | None = options.get("time") or None
    given: float | None = options.get("signal_delay_s")
    least, most = _DELAY_SECONDS
    if minutes is None:
        return float(most if given is None else given)
    if given is None:
        return max(least, min(most, minutes * 60 / 10))
    if given > minutes * 30:
        raise ConfigError(
            f"signal_delay_s={given}: a worker is told to stop {given} s before its time limit, but that is only "
            f"{minutes} min (`time`). Give at most half of the time, or leave signal_delay_s out"
        )
    return float(given)
