"""A tracker that loses nothing: every write goes to a journal on local disk first, and from there to the store.

Training never waits for the store, which may be unreachable when a trial begins, while it runs, or when it ends.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lab.errors import LabError, ResourceError
from lab.hold import Hold
from lab.tracking.base import (
    Left,
    Place,
    Registered,
    RunRecord,
    RunStatus,
    Tracker,
    UnavailableError,
    artifact_path,
)
from lab.tracking.courier import Courier
from lab.tracking.couriers import Couriers
from lab.tracking.delivery import deliver
from lab.tracking.gate import Gate
from lab.tracking.journal import writing
from lab.tracking.journaled_run import JournaledRun, Monitor
from lab.tracking.journals import left
from lab.tracking.pending import pending_experiment, pending_id, pending_key, run_in_store
from lab.tracking.run import now
from lab.tracking.writes import Open, Write

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from lab.data import Intake

__all__ = ["JournaledTracker"]

Answer = TypeVar("Answer")

_EXPERIMENTS = "experiments.json"  # the ids last seen, by store and name
_LOAD = "system/cpu_utilization_percentage"  # logged with every sample of the machine's load


class JournaledTracker:
    """A `Tracker` that writes to a journal, and reads from the store.

    Args:
        inner: the store.
        folder: of the journal.
        load_monitor: starts logging the machine's load to a run, from a given step on; None for stores without one.
    """

    # maximum seconds to wait for the store when a run is opened
    patience: ClassVar[float] = 5.0
    local_patience: ClassVar[float] = 60.0  # for a store without a server: a busy database

    def __init__(
        self, inner: Tracker, folder: Path, load_monitor: Callable[[Any, int], Monitor] | None = None
    ) -> None:
        self.inner = inner
        self.folder = folder
        self._load_monitor = load_monitor
        self._gate = Gate()
        self._couriers = Couriers(inner, folder, self._gate)
        self._lock = threading.RLock()
        self._rescue: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """The address of the store for display, without a password."""
        return self.inner.uri

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`; without an answer, the one last seen or a stand-in."""
        try:
            identity = self._ask(lambda: self.inner.experiment(name))
        except UnavailableError:
            return self._seen().get(self.uri, {}).get(name) or pending_experiment(name)
        self._remember(name, identity)
        return identity

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None if there is none."""
        return self.inner.find_experiment(name)

    def experiment_name(self, identity: str) -> str | None:
        """Return the name of the experiment with this id; while the store is unreachable, the one last seen."""
        try:
            return self._ask(lambda: self.inner.experiment_name(identity))
        except UnavailableError:
            for name, known in self._seen().get(self.uri, {}).items():
                if known == identity:
                    return name
            raise

    def present(
        self,
        experiment: str,
        *,
        description: str,
        varied: Sequence[str],
        descending: bool = True,
        metrics: Sequence[str] = (),
    ) -> None:
        """Arrange how the MLflow UI shows the experiment of a study: see `Tracker.present`."""
        self.inner.present(
            experiment, description=description, varied=varied, descending=descending, metrics=metrics
        )

    def open_run(
        self,
        *,
        name: str,
        experiment: str,
        tags: Mapping[str, str],
        parent_run_id: str | None = None,
        run_id: str | None = None,
        system_metrics: bool = False,
        timestamp: int | None = None,
        hold: Hold | None = None,
    ) -> JournaledRun:
        """Create a run, or re-open the one with `run_id`: see `Tracker.open_run`.

        While the store is unreachable, the run gets a pending id.
        """
        if hold is not None:
            hold.confirm()
        when = now() if timestamp is None else timestamp
        opening = Open(name, experiment, tags, parent_run_id, run_id, when)
        courier, attempt = self._couriers.tell(run_id, lambda one: one.open(opening, hold))
        # so that the run has its real id from the start
        courier.await_opening(0.0 if self._gate.is_shut else self._patience())
        own_id = run_id or courier.run_id or pending_id(courier.key)
        run = JournaledRun(self, courier, own_id, attempt=attempt, hold=hold)
        if system_metrics and self._load_monitor is not None:
            start = self._load_monitor
            first = max(self.history(run.run_id, _LOAD), default=-1) + 1 if run_id else 0
            run.watch(lambda opened: start(opened.log_metrics, first))
        self.rescue()
        return run

    def attach(self, run_id: str) -> JournaledRun:
        """Return a run for writing without re-opening it: see `Tracker.attach`."""
        if pending_key(run_id) is None:
            with suppress(UnavailableError):
                self._ask(lambda: self.inner.tags(run_id))
        courier, _ = self._couriers.tell(run_id, lambda one: one.attend())
        return JournaledRun(self, courier, run_id)

    def keep(self, run_id: str, write: Write) -> Courier:
        """Keep a write to a run in its journal, a new one if there is none; return the courier that delivers it."""
        courier, _ = self._couriers.tell(run_id, lambda one: one.add(write))
        return courier

    def model_run(self, uri: str) -> str:
        """Return the id of the run that a registered model came from: see `Tracker.model_run`."""
        return self.inner.model_run(uri)

    def register(
        self, run_id: str, name: str, *, aliases: Sequence[str] = (), description: str = ""
    ) -> Registered:
        """Register the model of a run in the store, at once: see `Tracker.register`."""
        known = self._known_id(run_id) or run_id
        return self.inner.register(known, name, aliases=aliases, description=description)

    def find_runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all of `tags`, oldest first; deleted runs do not count."""
        return self.inner.find_runs(experiment, tags)

    def experiment_of(self, run_id: str) -> str:
        """Return the id of a run's experiment."""
        return self.inner.experiment_of(self._known_id(run_id) or run_id)

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        return self.inner.tags(self._known_id(run_id) or run_id)

    def dataset_digests(self, run_id: str) -> set[tuple[str, str]]:
        """Return the names and digests of a run's datasets."""
        return self.inner.dataset_digests(self._known_id(run_id) or run_id)

    def record(self, run_id: str) -> RunRecord:
        """Return what the store knows of a run: see `Tracker.record`."""
        return self.inner.record(self._known_id(run_id) or run_id)

    def places(self, run_id: str) -> list[Place]:
        """Return where the store keeps the artifacts of a run, and its models: see `Tracker.places`."""
        return self.inner.places(self._known_id(run_id) or run_id)

    def status(self, run_id: str) -> RunStatus:
        """Return the status of a run in the store."""
        return self.inner.status(self._known_id(run_id) or run_id)

    def runs(
        self,
        experiment: str | None,
        *,
        tags: Mapping[str, str] | None = None,
        order_by: str | None = None,
        descending: bool = True,
        limit: int | None = None,
        metrics: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """Return a row for each run that has all of `tags`: see `Reader.runs`."""
        return self.inner.runs(
            experiment, tags=tags, order_by=order_by, descending=descending, limit=limit, metrics=metrics
        )

    def delete_run(self, run_id: str) -> None:
        """Delete a run in the store, at once: see `Tracker.delete_run`."""
        self.inner.delete_run(self._known_id(run_id) or run_id)

    def deleted_runs(self) -> pd.DataFrame:
        """Return a row for each deleted run, unless a registered model came from it."""
        return self.inner.deleted_runs()

    def missing_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return those of `run_ids` that were deleted or no longer exist: see `Tracker.missing_runs`."""
        return self.inner.missing_runs(run_ids)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return all values of `metric` by step, in order of the steps; empty if it was never logged.

        While the store is unreachable, those in the journal.
        """
        local = self._undelivered(run_id, metric)
        try:
            if local is not None and self._gate.is_shut:
                return local
            identity = self._known_id(run_id)
            stored = {} if identity is None else self.inner.history(identity, metric)
        except UnavailableError as error:
            self._gate.shut(str(error))
            if local is None:
                raise
            return local
        return dict(sorted({**(local or {}), **stored}.items()))

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return all values of `metrics` that the store has of many runs: see `Tracker.curves`."""
        return self.inner.curves(run_ids, metrics)

    def _undelivered(self, run_id: str, metric: str) -> dict[int, float] | None:
        """Return what a run's journal has of `metric`, None if it has none here."""
        courier = self._couriers.of(run_id)
        with suppress(ResourceError):  # just closed
            return None if courier is None else courier.history(metric)
        return None

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`, under its own name; return the copy, None if there is none."""
        place = artifact_path(path)
        courier = self._couriers.of(run_id)
        if courier is not None:
            with suppress(ResourceError, FileNotFoundError):  # just delivered
                waits, file = courier.artifact(place)
                if waits and file is None:
                    return None
                if file is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    return Path(shutil.copyfile(file, folder / PurePosixPath(place).name))
        identity = self._known_id(run_id)
        return None if identity is None else self.inner.download(identity, path, folder)

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each artifact of a run in the store: see `Tracker.files`."""
        identity = self._known_id(run_id)
        return {} if identity is None else self.inner.files(identity, folder)

    def delete_files(self, run_id: str, paths: Sequence[str] | None = None) -> None:
        """Delete artifacts of a run in the store, at once: see `Tracker.delete_files`."""
        identity = self._known_id(run_id)
        if identity is not None:
            self.inner.delete_files(identity, paths)

    def save_model(
        self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None = None
    ) -> None:
        """Write `model` to the new folder `folder`, in the store's own format."""
        self.inner.save_model(model, example, folder, intake)

    def flush(self, timeout: float = 10.0, patience: float = math.inf) -> Left:
        """Wait until the store has all writes; return what it still lacks: see `Tracker.flush`.

        Undelivered writes stay in the journal, from which `lab sync` and later workers send them.
        """
        deadline = time.monotonic() + timeout
        self._couriers.flush(deadline, time.monotonic() + patience)
        self.rescue()
        if self._rescue is not None:
            self._rescue.join(max(0.0, deadline - time.monotonic()))
        self._couriers.stop()
        return left(self.folder, self.uri)

    def rescue(self) -> None:
        """Deliver what earlier processes left, from a thread; returns at once."""
        with self._lock:
            if self._gate.is_shut or (self._rescue is not None and self._rescue.is_alive()):
                return
            self._rescue = threading.Thread(target=self._deliver, name="journals left", daemon=True)
            self._rescue.start()

    def _deliver(self) -> None:
        with suppress(LabError):  # `lab sync` reports it
            result = deliver(self.inner, self.folder)
            if result.away:
                self._gate.shut(result.away)

    def _patience(self) -> float:
        return self.patience if self.uri.startswith("http") else self.local_patience

    def _known_id(self, run_id: str) -> str | None:
        """Return the store's own id of a run, None if it is pending and has none yet."""
        if pending_key(run_id) is None:
            return run_id
        courier = self._couriers.of(run_id)
        known = None if courier is None else courier.run_id
        return known or run_in_store(self.inner, run_id)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the store's answer.

        Raises:
            UnavailableError: there was none within a few seconds.
        """
        return self._gate.ask(question, self.uri, self._patience())

    def _seen(self) -> dict[str, dict[str, str]]:
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / _EXPERIMENTS).read_text()))
        return {}

    def _remember(self, name: str, identity: str) -> None:
        with self._lock, writing(self.folder):
            seen = self._seen()
            if seen.get(self.uri, {}).get(name) == identity:
                return
            seen.setdefault(self.uri, {})[name] = identity
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{_EXPERIMENTS}.{uuid.uuid4().hex}"
            file.write_text(json.dumps(seen))
            file.replace(self.folder / _EXPERIMENTS)
