"""The actor in which Ray runs one worker, on whatever node has room for it.

Nothing heavy is imported until the actor has set its environment: torch reads the number of threads when it loads.
"""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
import threading
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.engines.node import Origin
    from lab.study import Event, WorkerSettings

__all__ = ["SECRETS", "Heard", "Place", "RayWorker"]

# handed over in memory: Ray shows and logs what is in a runtime environment
SECRETS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGUSER",
    "PGPASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_POLL_SECONDS = 30.0  # after which an answer without events tells that the worker still lives


@dataclass(frozen=True)
class Place:
    """The process that an actor runs in; Ray starts another one, perhaps on another node, when it dies.

    Args:
        life: a name that no other process of the actor has.
        node: id of the node, as Ray knows it.
        host: name of its machine.
        pid: of the process there.
    """

    life: str
    node: str
    host: str
    pid: int


@dataclass(frozen=True)
class Heard:
    """What a worker has said since it was last listened to.

    Args:
        events: in order.
        ended: whether these were the last.
        error: what it raised, if that ended it.
    """

    events: list[Event]
    ended: bool = False
    error: str = ""


class RayWorker:
    """One worker: `run` trains, while other threads of the actor serve `listen` and `stop`.

    After its process has died, Ray creates it anew from the same arguments, with nothing to run yet.

    Args:
        origin: where it was started from.
        settings: fields of the worker's settings.
        secrets: environment variables with credentials.
    """

    def __init__(self, origin: Origin, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        os.environ.update(secrets)
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        self._origin = origin
        self._settings = settings
        self._life = uuid.uuid4().hex
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._said: list[Event] = []
        self._dropped = 0  # events that were heard, and are not kept any more
        self._ended = False
        self._error = ""

    def where(self) -> Place:
        """Return the process that this runs in."""
        from ray import get_runtime_context

        node = get_runtime_context().get_node_id()
        return Place(self._life, node, socket.gethostname(), os.getpid())

    def run(self, life: str) -> None:
        """Work until nothing is left or `stop` is called; nothing if the process called `life` has died since."""
        if life != self._life:
            return
        error = ""
        try:
            self._work()
        except BaseException as broken:  # noqa: BLE001  # SystemExit, too, would end the actor without a word
            error = "".join(traceback.format_exception_only(broken)).strip()
        with self._news:
            self._ended, self._error = True, error
            self._news.notify_all()

    def listen(self, life: str, heard: int) -> Heard | None:
        """Wait for events and return them; None if the process called `life` has died since.

        Args:
            life: whose events these are.
            heard: how many of them have been heard; what comes after them is returned, again if it was before.
        """
        if life != self._life:
            return None
        with self._news:
            del self._said[: max(heard - self._dropped, 0)]
            self._dropped = max(heard, self._dropped)
            self._news.wait_for(lambda: self._said or self._ended, _POLL_SECONDS)
            return Heard(list(self._said), self._ended, self._error)

    def stop(self) -> None:
        """Let the running trial checkpoint and return to the queue, and begin no other."""
        self._stop.set()

    def _work(self) -> None:
        from lab.engines.node import work_on_node
        from lab.study import WorkerSettings

        settings = _local(WorkerSettings(**self._settings))
        work_on_node(self._origin, settings, self._emit, self._stop.is_set)

    def _emit(self, event: Event) -> None:
        with self._news:
            self._said.append(event)
            self._news.notify_all()


def _local(settings: WorkerSettings) -> WorkerSettings:
    """Return the settings with folders of this node in place of those that cannot be made here.

    A trial that comes from another node finds its checkpoint among the artifacts of its run.
    """
    return replace(
        settings,
        checkpoint_dir=_made(settings.checkpoint_dir),
        journal_dir=None if settings.journal_dir is None else _made(settings.journal_dir),
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.gettempdir()) / f"lab-{getpass.getuser()}" / folder.name
