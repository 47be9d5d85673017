"""Workers as actors of a Ray cluster: Ray places and restarts them."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import psutil

from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.node import Origin
from lab.engines.ray.cluster import RayCluster
from lab.engines.ray.worker import SECRETS, Heard, Place, RayWorker
from lab.engines.seats import Seat
from lab.errors import ConfigError, ResourceError
from lab.study import Event, TrialStarted, WorkerDied, WorkerSettings
from lab.wording import counted

__all__ = ["RayLauncher"]

_MOST_CRASHES = 5  # processes of a worker that died in a row before they began a trial: others would, too
_CALLS_AT_ONCE = 8  # of an actor: `run`, `listen`, `stop`, and what is left of those when a connection breaks
_LOOK_SECONDS = 5.0  # between looks at what nodes there are
_PARTS = 10_000  # of a GPU, which Ray counts
_SILENT_SECONDS = 10.0  # after which a process that was lost, and not started anew, is thought dead
_DEATH_SECONDS = 10.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ASIDE = re.compile(
    r"\s|ray::|traceback|The actor died", re.IGNORECASE
)  # lines without the reason for an end


@dataclass
class _Worker:
    """A worker whose end has not been heard; `call` is the one call of its actor that is waited for.

    `place` is None while the actor waits to be placed, and once its process is thought dead: then `lost` is the place
    it had, `missed` since when, and `mourned` whether its death was told. `heard` counts the events of this process,
    `crashes` the processes in a row that died before they began a trial.
    """

    actor: Any
    demand: Mapping[str, float]
    call: Any = None
    place: Place | None = None
    lost: Place | None = None
    missed: float = 0.0
    mourned: bool = False
    heard: int = 0
    crashes: int = 0
    stopped: bool = False

    def find(self) -> None:
        """Ask its process where it is; Ray answers once there is one, and repeats this when that dies."""
        if self.place is not None:
            self.lost, self.place, self.missed, self.mourned = self.place, None, time.monotonic(), False
        self.call = self.actor.where.options(max_task_retries=-1).remote()

    def listen(self, place: Place) -> None:
        """Wait for events from a place."""
        self.place, self.lost = place, None
        self.call = self.actor.listen.remote(place.life, self.heard)

    def take(self, event: Event) -> None:
        """Take in what it has said."""
        self.heard += 1
        if isinstance(event, TrialStarted):
            self.crashes = 0


class RayLauncher:
    """Runs each worker in an actor of a Ray cluster: see `Launcher`.

    Ray restarts an actor whose process or node has died, elsewhere if need be; the worker lives on under its number,
    and its trial is reported by `WorkerDied`. Credentials in this process's environment go along in memory.

    Args:
        address: see `RayCluster`.
        workers: maximum number of workers.
        num_gpus: GPUs of a worker, 1 at most; several workers share one if it is less. By default 1 if the cluster has
            any GPU now.
        num_cpus: cores of a worker; 1 by default.
        resources: amounts of other resources that a worker needs, as Ray names them.
        runtime_env: Ray's runtime environment for workers. Ray shows and logs it: no place for secrets.
        origin: what workers are told about this process; by default how it is now.

    Raises:
        ConfigError: `num_gpus` is more than 1, or an object registered under a name cannot be sent to other processes.
        LabError: Ray is not installed, or the cluster cannot be reached or used.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int = 1,
        *,
        num_gpus: float | None = None,
        num_cpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> None:
        if num_gpus is not None and not 0 <= num_gpus <= 1:
            raise ConfigError(
                f"num_gpus: a worker uses a GPU or a part of one (0 to 1), but got {num_gpus:g}"
            )
        self._origin = origin or Origin.here()
        self._most = workers
        self._cluster = RayCluster(address)
        self._ray = self._cluster.ray
        self._num_gpus = min(self._cluster.resource("GPU"), 1.0) if num_gpus is None else num_gpus
        self._num_cpus = 1.0 if num_cpus is None else num_cpus
        self._resources = dict(resources or {})
        self._runtime_env = dict(runtime_env or {})
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._fits, self._looked = (
            True,
            -math.inf,
        )  # whether any node has what a worker needs, and when that was seen

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def is_here(self) -> bool:
        """Whether all nodes of the cluster are this machine, so that workers can use its files."""
        return self._cluster.is_here

    def machines(self) -> list[str]:
        """Return the names of the cluster's machines."""
        return [str(node["NodeManagerHostname"]) for node in self._cluster.nodes()]

    def close(self) -> None:
        """End every worker at once, and a Ray that was started for this."""
        self.kill()
        self._cluster.close()

    def devices(self) -> Sequence[Device]:
        """Return as many GPUs as the workers need, wherever those are, or one CPU for all workers."""
        if not self._num_gpus:
            return [Device("cpu", workers=self._most)]
        number = math.ceil(self._most / self._per_gpu)
        return [Device(f"gpu-{index}", workers=self._per_gpu) for index in range(number)]

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Ask Ray for an actor; return its worker's number."""
        number, gpus = self._started, self._gpus_of(seat)
        with self._cluster.asked():
            worker = _Worker(
                self._actor(settings, gpus), {"GPU": gpus, "CPU": self._num_cpus, **self._resources}
            )
            worker.find()
        self._workers[number] = worker
        self._started += 1
        return number

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what has come from the workers, with their numbers; wait for it at most `timeout` seconds."""
        by_call = {worker.call: number for number, worker in self._workers.items()}
        for call in self._answered(list(by_call), timeout):
            number = by_call[call]
            for event in self._hear(self._workers[number]):
                if isinstance(event, Exited):
                    self._ray.kill(self._workers.pop(number).actor)
                yield number, event
                if not self._workers:  # none is left, or all were killed
                    return
        yield from self._miss()

    def stop(self, worker: int | None = None) -> None:
        """Ask a worker (all if None) to checkpoint, return its trial to the queue and exit."""
        for number in list(self._workers) if worker is None else [worker]:
            asked = self._workers[number]
            asked.stopped = True
            with self._cluster.asked():
                if asked.place is None:  # it runs nothing: it is told to only when it has said where it is
                    self._ray.kill(asked.actor)
                else:
                    asked.actor.stop.remote()

    def kill(self) -> None:
        """End every worker at once; what they trained since their last checkpoints is lost."""
        workers = list(self._workers.values())
        self._workers.clear()
        calls = [worker.call for worker in workers]
        with suppress(Exception):  # without a connection they end by themselves
            for worker in workers:
                self._ray.kill(worker.actor)
            if calls:
                self._ray.wait(calls, num_returns=len(calls), timeout=_DEATH_SECONDS)
        _await_end([worker.place for worker in workers])

    def pending(self) -> Collection[int]:
        """Return the numbers of the workers that Ray has not placed yet, or has to place again."""
        return [number for number, worker in self._workers.items() if worker.place is None]

    def notes(self) -> Sequence[str]:
        """Return how many workers wait for what, and how many run on how many nodes."""
        waiting = [worker for worker in self._workers.values() if worker.place is None]
        places = [worker.place for worker in self._workers.values() if worker.place is not None]
        parts = []
        if waiting:
            demand = waiting[0].demand
            each = f"{_in_words(demand)} each" + (
                "" if self._any_node_fits(demand) else "; no node has that now"
            )
            parts.append(f"{len(waiting)} waiting for resources ({each})")
        if places:
            nodes = counted(len({place.node for place in places}), "node")
            parts.append(f"{len(places)} running on {nodes}")
        return [f"ray: {', '.join(parts)}"] if parts else []

    @property
    def _per_gpu(self) -> int:
        """The number of workers that share a GPU."""
        return math.floor(1 / self._num_gpus)

    def _actor(self, settings: WorkerSettings, gpus: float) -> Any:
        options = {
            "num_cpus": self._num_cpus,
            "num_gpus": gpus,
            "resources": self._resources,
            "runtime_env": self._runtime_env,
            "max_restarts": -1,  # a limit would count lost nodes, too; `_placed` ends what only crashes
            "max_concurrency": _CALLS_AT_ONCE,
        }
        secrets = {name: os.environ[name] for name in SECRETS if name in os.environ}
        return self._ray.remote(RayWorker).options(**options).remote(self._origin, asdict(settings), secrets)

    def _gpus_of(self, seat: Seat) -> float:
        if not seat.device.is_gpu:
            return 0.0
        if self._num_gpus and seat.share == Fraction(1, self._per_gpu):
            return self._num_gpus
        return math.floor(seat.share * _PARTS) / _PARTS

    def _any_node_fits(self, demand: Mapping[str, float]) -> bool:
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            with suppress(ResourceError):
                self._fits = self._cluster.fits(demand)
        return self._fits

    def _answered(self, calls: list[Any], timeout: float) -> list[Any]:
        """Return the calls that have been answered; wait at most `timeout` seconds for the first."""
        if not calls:
            time.sleep(timeout)
            return []
        try:
            self._ray.wait(calls, timeout=timeout)
            answered: list[Any] = self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]
        except ConnectionError:  # so says Ray's client; to get an answer raises it again
            return calls
        return answered

    def _hear(self, worker: _Worker) -> Iterator[Event | Exited]:
        """Yield what the answer of a worker's actor means, and ask it again."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(worker.call)
        except (errors.ActorUnavailableError, errors.OutOfMemoryError):  # Ray restarts it, if it is dead
            worker.find()
        except Exception as error:  # noqa: BLE001  # whatever Ray says of an actor that is no more
            yield _gone(worker, error)
        else:
            if answer is None:
                worker.find()
            elif isinstance(answer, Place):
                yield from self._placed(worker, answer)
            else:
                yield from self._heard(worker, answer)

    def _placed(self, worker: _Worker, place: Place) -> Iterator[Event | Exited]:
        """Let a worker run in the process that Ray has started, or go on if that is the one it had."""
        lost = worker.lost
        if lost is not None and lost.life == place.life:  # only the connection was interrupted
            worker.listen(place)
            return
        if lost is not None:
            yield from self._mourn(worker, lost)
        if worker.crashes >= _MOST_CRASHES:
            said = f"its process on {place.host} died {worker.crashes} times before it began a trial"
            yield Exited(1, f"{said}; the log of its Ray node says more")
        elif worker.stopped:
            yield Exited(0)
        else:
            worker.heard = 0
            worker.actor.run.remote(place.life)
            worker.listen(place)

    def _heard(self, worker: _Worker, heard: Heard) -> Iterator[Event | Exited]:
        for event in heard.events:
            worker.take(event)
            yield event
        if heard.ended:
            yield Exited(1 if heard.error else 0, heard.error)
        elif worker.place is not None:
            worker.listen(worker.place)

    def _miss(self) -> Iterator[tuple[int, WorkerDied]]:
        """Yield which workers have lost their process, however long Ray needs to place them again."""
        for number, worker in list(self._workers.items()):
            if worker.lost is not None and not worker.mourned:
                late = time.monotonic() - worker.missed > _SILENT_SECONDS
                if late or worker.lost.node not in self._cluster.living():
                    for died in self._mourn(worker, worker.lost):
                        yield number, died

    def _mourn(self, worker: _Worker, lost: Place) -> Iterator[WorkerDied]:
        """Yield, once, that a worker's process has died, or was lost with its node; which trial it had is known."""
        if worker.mourned:
            return
        worker.mourned = True
        blameless = lost.node not in self._cluster.living()
        worker.crashes += not blameless
        why = f"Ray has lost its node {lost.host}" if blameless else f"its process on {lost.host} died"
        yield WorkerDied(-1, "", why, blameless)


def _gone(worker: _Worker, error: Exception) -> Exited:
    """Return how a worker has ended whose actor Ray does not restart."""
    if worker.stopped and worker.place is None:
        return Exited(0)
    return Exited(1, _reason(error), blameless=bool(getattr(error, "preempted", False)))


def _reason(error: Exception) -> str:
    """Return why an actor has ended, on one line: not which it was, nor where in Ray."""
    text = _COLOURS.sub("", str(error))
    lines = [line for line in text.splitlines() if line.strip() and not _ASIDE.match(line)]
    reason = " ".join(lines[-2:]) or text.partition("\n")[0] or type(error).__name__
    if "No module named 'lab" in reason:
        reason += ". Install this version of lab on the nodes, or name it in `runtime_env`"
    return reason


def _await_end(places: Sequence[Place | None]) -> None:
    """Wait for the processes on this machine that Ray was told to kill."""
    processes = []
    for place in places:
        if place is not None and place.host == socket.gethostname():
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(place.pid))
    psutil.wait_procs(processes, _DEATH_SECONDS)


def _in_words(demand: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in demand.items() if amount)
