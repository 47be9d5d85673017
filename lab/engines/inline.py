"""Workers in threads of this process, one at work at a time: what a launcher is, without anything around it."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.seats import Seat
from lab.stopping import Stop
from lab.study import Event, WorkerSettings, work

__all__ = ["InlineLauncher"]


@dataclass(frozen=True)
class _Worker:
    thread: threading.Thread
    stop: Stop


class InlineLauncher:
    """Runs workers in this process: see `Launcher`.

    They take turns, as torch has one random number generator and one number of threads for the whole process. A thread
    cannot be killed: `kill` stops it, and its trial is returned to the queue. Which GPU it uses cannot be chosen.

    Args:
        devices: what workers are said to run on.
    """

    def __init__(self, devices: Sequence[Device] = (Device("cpu"),)) -> None:
        self._devices = devices
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._turn = threading.Lock()
        self._said: queue.SimpleQueue[tuple[int, Event | Exited]] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._workers)

    def devices(self) -> Sequence[Device]:
        """Return what workers are said to run on."""
        return self._devices

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Start a worker; return its number."""
        number, stop = self._started, Stop()
        thread = threading.Thread(target=self._work, args=(number, settings, stop), daemon=True)
        self._workers[number] = _Worker(thread, stop)
        self._started += 1
        thread.start()
        return number

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what has come from the workers, with their numbers; wait for it at most `timeout` seconds."""
        with suppress(queue.Empty):
            number, event = self._said.get(timeout=timeout)
            while True:
                if isinstance(event, Exited):
                    self._workers.pop(number).thread.join()
                yield number, event
                number, event = self._said.get_nowait()

    def stop(self, worker: int | None = None) -> None:
        """Ask a worker (all if None) to checkpoint, return its trial to the queue and exit."""
        for number in list(self._workers) if worker is None else [worker]:
            self._workers[number].stop.ask()

    def kill(self) -> None:
        """Stop every worker and wait for it."""
        self.stop()
        for worker in self._workers.values():
            worker.thread.join()
        self._workers.clear()
        self._said = queue.SimpleQueue()

    def pending(self) -> Collection[int]:
        """Return no numbers: each has a thread."""
        return ()

    def notes(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    def _work(self, number: int, settings: WorkerSettings, stop: Stop) -> None:
        exited = Exited(0)
        try:
            with self._turn:
                work(settings, lambda event: self._said.put((number, event)), stop)
        except Exception as error:  # noqa: BLE001  # it ends this worker, not the process
            exited = Exited(1, "".join(traceback.format_exception_only(error)).strip())
        self._said.put((number, exited))
