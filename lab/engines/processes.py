"""Worker processes on this machine: started cheaply, heard over pipes, stopped cleanly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from lab import logs
from lab.children import single_threaded_imports, without_script
from lab.engines.devices import Device, devices_here
from lab.engines.fork_server import fork_server
from lab.engines.launcher import Exited
from lab.engines.seats import Seat, share_of_machine
from lab.engines.surroundings import Surroundings
from lab.engines.worker_process import Broken, worker_main
from lab.errors import ResourceError
from lab.study import Event, WorkerSettings

__all__ = ["ProcessLauncher"]

_DEATH_SECONDS = 10


@dataclass(frozen=True)
class _Worker:
    """A worker process and the pipe that its events come through."""

    process: Any  # multiprocessing's process classes differ by start method
    events: Connection

    def end(self, *, at_once: bool = False) -> None:
        """Send SIGTERM, or SIGKILL `at_once`."""
        if self.process.is_alive():  # the id of one that the server has seen end may be another process's
            (self.process.kill if at_once else self.process.terminate)()


class ProcessLauncher:
    """Runs workers as processes of this machine: see `Launcher`.

    Workers are forked from a server that begins at once to import what they share, next to this process.

    Args:
        devices: what workers run on; the GPUs that this process may use, or its CPU, if None.

    Raises:
        ConfigError: an object registered under a name cannot be sent to another process.
    """

    def __init__(self, devices: Sequence[Device] | None = None) -> None:
        Surroundings.here()
        self._context = fork_server()
        self._devices = devices
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._errors: dict[int, str] = {}  # that ended workers, by number

    def __len__(self) -> int:
        return len(self._workers)

    def devices(self) -> Sequence[Device]:
        """Return what workers can run on."""
        if self._devices is None:
            self._devices = devices_here()
        return self._devices

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Start a worker; return its number.

        Raises:
            ResourceError: this machine allows no further process, or no further open file.
        """
        number = self._started
        try:
            self._workers[number] = self._forked(settings, seat, f"lab-worker-{number}")
        except (OSError, EOFError) as error:  # the latter if the server cannot fork
            reason = getattr(error, "strerror", None) or "it was not forked"
            raise ResourceError(
                f"A worker process cannot be started: {reason}. Use fewer workers, or raise the limits of processes "
                "and open files (`ulimit -u`, `ulimit -n`)"
            ) from None
        self._started += 1
        return number

    def _forked(self, settings: WorkerSettings, seat: Seat, name: str) -> _Worker:
        receiver, sender = self._context.Pipe(duplex=False)
        gpu = seat.device.name if seat.device.is_gpu else None
        with single_threaded_imports(), without_script(), sender:  # the pipe must end when the worker does
            share = share_of_machine(seat, self.devices())
            arguments = (settings, sender, gpu, logs.configured_format(), Surroundings.here(), share)
            process = self._context.Process(target=worker_main, args=arguments, name=name)
            process.start()
        return _Worker(process, receiver)

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what has come from the workers, with their numbers; wait for it at most `timeout` seconds."""
        by_pipe = {worker.events: number for number, worker in self._workers.items()}
        for pipe in wait(list(by_pipe), timeout):
            number = by_pipe[pipe]  # type: ignore[index]  # only pipes were waited for
            if number not in self._workers:  # all were killed since
                return
            try:
                event = self._workers[number].events.recv()
            except (EOFError, OSError):  # also what a message cut short by SIGKILL ends in
                yield number, self._exited(number)
            else:
                if isinstance(event, Broken):
                    self._errors[number] = event.error
                    continue
                yield number, event

    def stop(self, worker: int | None = None) -> None:
        """Ask a worker (all if None) to checkpoint, return its trial to the queue and exit."""
        for number in list(self._workers) if worker is None else [worker]:
            self._workers[number].end()

    def kill(self) -> None:
        """End every worker at once; what they trained since their last checkpoints is lost."""
        for worker in self._workers.values():
            worker.end(at_once=True)
        for worker in self._workers.values():
            worker.process.join(_DEATH_SECONDS)
            worker.events.close()
        self._workers.clear()

    def pending(self) -> Collection[int]:
        """Return no numbers: processes run at once."""
        return ()

    def notes(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    def _exited(self, number: int) -> Exited:
        worker = self._workers.pop(number)
        worker.process.join()
        worker.events.close()
        return Exited(worker.process.exitcode or 0, self._errors.pop(number, ""))
