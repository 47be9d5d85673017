"""Worker processes on this machine: started cheaply, heard from over pipes, stopped in good order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from lab import logs
from lab.engines.surroundings import Surroundings, without_script
from lab.engines.worker_process import Broken, worker_main
from lab.study import Event, TrialStarted, WorkerSettings

__all__ = ["Exited", "Pool", "Worker", "warm_up"]

# Imported once by the server that workers are forked from: a worker then starts in milliseconds, not the
# seconds that these take, and shares their memory.
_PRELOADED = [
    "lab.engines.inherit_logs",
    "lab.engines.worker_process",
    "lab.pictures.trial_figures",
    "lab.tracking.mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.model_selection",
    "torch.export",
]


_DEATH_SECONDS = 10
_MOST_KILLED = 10  # workers in a row that were killed before one of them began a trial: others would be too


@dataclass(frozen=True)
class Exited:
    """A worker's process has ended, with 0 when nothing was left for it to do.

    `hopeless` if another worker would end likewise, unless this one was at a trial; `error` is the last that it said.
    """

    code: int
    hopeless: bool = False
    error: str = ""

    def __str__(self) -> str:
        said = f": {self.error}" if self.error else "; if it said why, that stands above"
        return f"ended with exit code {self.code} before it began a trial{said}"


@dataclass(frozen=True)
class Worker:
    """A worker process and the pipe that its events come through."""

    number: int
    process: Any  # multiprocessing's process classes differ by start method
    events: Connection


class Pool:
    """Starts worker processes and hears from them.

    Args:
        settings: what each worker is given, unless it is given its own.
        gpus: how many CUDA devices the workers are spread over.
    """

    def __init__(self, settings: WorkerSettings | None, gpus: int = 0) -> None:
        self._settings = settings
        self._gpus = gpus
        self._context = _context()
        self._workers: dict[int, Worker] = {}
        self._started = 0
        self._killed = 0  # workers, since the last that began a trial
        self._errors: dict[int, str] = {}  # that ended workers, by number

    def __len__(self) -> int:
        return len(self._workers)

    def start(self, settings: WorkerSettings | None = None) -> int:
        """Start one more worker; return its number."""
        number = self._started
        gpu = number % self._gpus if self._gpus else None
        receiver, sender = self._context.Pipe(duplex=False)
        with _single_threaded_imports(), without_script():
            arguments = (
                settings or self._settings,
                sender,
                gpu,
                logs.configured_format(),
                Surroundings.here(),
            )
            process = self._context.Process(target=worker_main, args=arguments, name=f"lab-worker-{number}")
            process.start()
        sender.close()  # ours: the pipe must end when the worker does
        self._workers[number] = Worker(number, process, receiver)
        self._started += 1
        return number

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what has come from the workers, with their numbers.

        Args:
            timeout: seconds to wait for something to come.
        """
        by_pipe = {worker.events: worker for worker in self._workers.values()}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]  # only pipes were waited for
            try:
                event = worker.events.recv()
            except (EOFError, OSError):  # also what a message cut short by SIGKILL ends in
                yield worker.number, self._exited(worker)
            else:
                if isinstance(event, Broken):
                    self._errors[worker.number] = event.error
                    continue
                if isinstance(event, TrialStarted):
                    self._killed = 0
                yield worker.number, event

    def _exited(self, worker: Worker) -> Exited:
        worker.process.join()
        del self._workers[worker.number]
        code = worker.process.exitcode or 0
        self._killed += code < 0
        error = self._errors.pop(worker.number, "")
        return Exited(code, hopeless=code > 0 or self._killed >= _MOST_KILLED, error=error)

    def stop(self) -> None:
        """Ask every worker to checkpoint, put its trial back and end."""
        for worker in self._workers.values():
            worker.process.terminate()

    def kill(self) -> None:
        """End every worker at once; what they trained since their last checkpoints is lost."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.join(_DEATH_SECONDS)


def warm_up() -> None:
    """Begin, beside this process, with the imports that workers share.

    Raises:
        ConfigError: what is registered under a name cannot be given to them.
    """
    Surroundings.here()
    _context()


def _context() -> Any:
    """Return the cheapest start method that is safe beside torch's threads, and prepare it."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    resource_tracker.ensure_running()  # starting it below would unblock SIGINT
    with _single_threaded_imports(), _interrupts_blocked():
        forkserver.ensure_running()  # imports while this process plans
    return context


@contextmanager
def _single_threaded_imports() -> Iterator[None]:
    """Let child processes start their numeric libraries with one thread; torch is told its own count later."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let child processes start deaf to Ctrl-C, which the terminal sends to all: only this process answers it."""
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    except AttributeError:  # Windows
        yield
        return
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
