"""A tracker that loses nothing: every write goes to a journal on local disk first, and from there to the store.

Training never waits for the store; it may be away when a trial begins, in the middle of it or at its end.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lab.errors import LabError, ResourceError
from lab.hold import Hold
from lab.tracking.base import (
    Left,
    Place,
    RunStatus,
    Tracker,
    UnavailableError,
    artifact_path,
    pending_id,
    pending_key,
)
from lab.tracking.courier import Courier, Gate
from lab.tracking.delivery import deliver, pending_experiment, run_in_store
from lab.tracking.journal import RunJournal, find, left, writing
from lab.tracking.journaled_run import JournaledRun, Monitor
from lab.tracking.run import now
from lab.tracking.tags import Tag
from lab.tracking.writes import Open, Write

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from lab.tracking.frames import RunRecord

__all__ = ["JournaledTracker"]

Answer = TypeVar("Answer")

_EXPERIMENTS = "experiments.json"  # the ids last seen, by store and name
_LOAD = "system/cpu_utilization_percentage"  # logged with every sample of the machine's load
_STOP_SECONDS = 0.5  # for the threads to put down what they have in hand
_LOCK_PATIENCE = 10.0  # seconds to wait for somebody who is just delivering the same run


class JournaledTracker:
    """A `Tracker` that writes to a journal, and reads from the store.

    Args:
        inner: the store.
        folder: of the journal.
        load_monitor: starts to log the machine's load to a run, from a step on; None for stores without it.
    """

    # most seconds that opening a run waits for the store
    patience: ClassVar[float] = 5.0
    local_patience: ClassVar[float] = 60.0  # of one without a server: a busy database

    def __init__(
        self, inner: Tracker, folder: Path, load_monitor: Callable[[Any, int], Monitor] | None = None
    ) -> None:
        self.inner = inner
        self.folder = folder
        self._load_monitor = load_monitor
        self._gate = Gate()
        self._lock = threading.RLock()
        self._couriers: dict[str, Courier] = {}  # by key
        self._rescue: threading.Thread | None = None

    @property
    def uri(self) -> str:
        """The address of the store, to be shown: without a password."""
        return self.inner.uri

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`; while the store is away, the one last seen or a stand-in."""
        try:
            identity = self._ask(lambda: self.inner.experiment(name))
        except UnavailableError:
            return self._seen().get(self.uri, {}).get(name) or pending_experiment(name)
        self._remember(name, identity)
        return identity

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None where there is none."""
        return self.inner.find_experiment(name)

    def experiment_name(self, identity: str) -> str | None:
        """Return the name of the experiment with this id; while the store is away, the one last seen."""
        try:
            return self._ask(lambda: self.inner.experiment_name(identity))
        except UnavailableError:
            for name, known in self._seen().get(self.uri, {}).items():
                if known == identity:
                    return name
            raise

    def present(
        self, experiment: str, *, description: str, varied: Sequence[str], descending: bool = True
    ) -> None:
        """Arrange how the MLflow UI shows the experiment of a study: see `Tracker.present`."""
        self.inner.present(experiment, description=description, varied=varied, descending=descending)

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

        While the store is away the run gets an id for the meantime.
        """
        if hold is not None:
            hold.confirm()
        attempt = _attempt()
        with self._writing(run_id) as (courier, fresh), self._lock:
            if hold is not None:
                courier.delivery.holds[attempt] = hold
            key = (pending_key(run_id) if run_id else None) or courier.journal.key
            own = {
                Tag.ATTEMPT: attempt,
                **({} if run_id and not pending_key(run_id) else {Tag.JOURNAL: key}),
            }
            tries = courier.tries
            courier.over, courier.refusal = False, None
            when = now() if timestamp is None else timestamp
            number = courier.journal.add(Open(name, experiment, {**tags, **own}, parent_run_id, run_id, when))
            courier.journal.note("name", name)
            courier.since = number
        if not self._gate.is_shut:  # so that the run has its real id from the start
            courier.await_try(number, tries, self._patience())
        if courier.refusal is not None:
            self._give_up(courier, new=fresh)
        known = courier.journal.known_id
        own_id = run_id or known or pending_id(courier.journal.key)
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
        with self._writing(run_id) as (courier, _):
            return JournaledRun(self, courier, run_id)

    def model_run(self, uri: str) -> str:
        """Return the id of the run that a registered model came from: see `Tracker.model_run`."""
        return self.inner.model_run(uri)

    def find_runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all of `tags`, oldest first; deleted runs do not count."""
        return self.inner.find_runs(experiment, tags)

    def experiment_of(self, run_id: str) -> str:
        """Return the id of the experiment that a run is in."""
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
        """Return where a run stands in the store."""
        return self.inner.status(self._known_id(run_id) or run_id)

    def runs(
        self,
        experiment: str | None,
        *,
        tags: Mapping[str, str] | None = None,
        order_by: str | None = None,
        descending: bool = True,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Return a row for each run that has all of `tags`: see `Tracker.runs`."""
        return self.inner.runs(experiment, tags=tags, order_by=order_by, descending=descending, limit=limit)

    def deleted_runs(self) -> pd.DataFrame:
        """Return a row for each deleted run that no registered model came from."""
        return self.inner.deleted_runs()

    def missing_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return those of `run_ids` that were deleted, or are no more: see `Tracker.missing_runs`."""
        return self.inner.missing_runs(run_ids)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return all values of `metric` by step, in order of the steps; empty where it was never logged.

        While the store is away, those that the journal knows.
        """
        local: dict[int, float] = {}
        known = False
        with suppress(ResourceError), self._lock:
            courier = self._live(run_id)
            if courier is not None:
                local, known = courier.journal.history(metric), True
        try:
            if known and self._gate.is_shut:
                return local
            identity = self._known_id(run_id)
            stored = {} if identity is None else self.inner.history(identity, metric)
        except UnavailableError as error:
            self._gate.shut(str(error))
            if not known:
                raise
            return local
        return dict(sorted({**local, **stored}.items()))

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`, under its own name; return the copy, None without one."""
        place = artifact_path(path)
        with self._lock:
            courier = self._live(run_id)
            if courier is not None:
                with suppress(ResourceError, FileNotFoundError):  # delivered just now
                    waits, file = courier.journal.artifact(place)
                    if waits and file is None:
                        return None
                    if file is not None:
                        folder.mkdir(parents=True, exist_ok=True)
                        return Path(shutil.copyfile(file, folder / PurePosixPath(place).name))
        identity = self._known_id(run_id)
        return None if identity is None else self.inner.download(identity, path, folder)

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each artifact that the store has of a run: see `Tracker.files`."""
        identity = self._known_id(run_id)
        return {} if identity is None else self.inner.files(identity, folder)

    def delete_files(self, run_id: str, paths: Sequence[str] | None = None) -> None:
        """Delete artifacts that the store has of a run, at once: see `Tracker.delete_files`."""
        identity = self._known_id(run_id)
        if identity is not None:
            self.inner.delete_files(identity, paths)

    def save_model(self, model: nn.Module, example: Tensor, folder: Path) -> None:
        """Write `model` to the new folder `folder`, in the store's own format."""
        self.inner.save_model(model, example, folder)

    def flush(self, timeout: float = 10.0) -> Left:
        """Wait until the store has all that was written, at most `timeout` seconds; return what it has not.

        What is left stays in the journal, where `lab sync` and later workers find it.
        """
        deadline = time.monotonic() + timeout
        for courier in list(self._couriers.values()):
            courier.flush(deadline)
        self.rescue()
        if self._rescue is not None:
            self._rescue.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            couriers, self._couriers = list(self._couriers.values()), {}
        for courier in couriers:
            courier.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for courier in couriers:
            courier.join(max(0.0, deadline - time.monotonic()))
        return left(self.folder, self.uri)

    def rescue(self) -> None:
        """Deliver what earlier processes have left, from a thread; returns at once."""
        with self._lock:
            if self._gate.is_shut or (self._rescue is not None and self._rescue.is_alive()):
                return
            self._rescue = threading.Thread(target=self._deliver, name="journals left", daemon=True)
            self._rescue.start()

    def add(self, courier: Courier, run_id: str, write: Write) -> Courier:
        """Keep a write of a run in its journal, a new one where the last was delivered; return its courier."""
        with self._writing(courier.journal.known_id or run_id, courier) as (courier, _):
            try:
                courier.journal.add(write)
            finally:
                courier.over = write.is_final
            return courier

    def leave(self, courier: Courier, attempt: str) -> None:
        """Deliver of an attempt whose trial is lost nothing but points that nobody has."""
        with self._lock:
            if self._couriers.get(courier.journal.key) is courier:
                with suppress(ResourceError):  # then those who deliver it see that the run is another's
                    courier.journal.note("lost", attempt)
                courier.over = True
                courier.offer()

    def _deliver(self) -> None:
        with suppress(LabError):  # `lab sync` tells
            result = deliver(self.inner, self.folder)
            if result.away:
                self._gate.shut(result.away)

    @contextmanager
    def _writing(self, run_id: str | None, last: Courier | None = None) -> Iterator[tuple[Courier, bool]]:
        """Yield who delivers a run, and whether its journal is new; it does not end meanwhile.

        Args:
            run_id: of the run, None for a new one.
            last: who delivered it before; still does, unless it has ended.
        """
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            with self._lock:
                lives = last is not None and self._couriers.get(last.journal.key) is last
                beside = time.monotonic() > deadline
                courier, fresh = (last, False) if lives else self._courier(run_id, beside=beside)
                if courier is not None:
                    courier.writers += 1
                    break
            time.sleep(0.05)
        try:
            yield courier, fresh
        finally:
            with self._lock:
                courier.writers -= 1
            courier.offer()

    def _courier(self, run_id: str | None, *, beside: bool) -> tuple[Courier | None, bool]:
        """Return who delivers a run, a new one if nobody does here yet, and whether its journal is new.

        None while somebody else has the journal, unless a new one may lie `beside` it.
        """
        key = self._key(run_id) if run_id else None
        if key in self._couriers:
            return self._couriers[key], False
        found = key is not None and (self.folder / key / "journal.db").exists()
        facts = {"store": self.uri}
        if run_id and pending_key(run_id) is None:
            facts["run_id"] = run_id
        place = self.folder / (key or uuid.uuid4().hex)
        if beside:
            place, found = self.folder / uuid.uuid4().hex, False
            facts |= {"run_id": run_id} if run_id else {}
        journal = RunJournal.create(place, **facts)
        if journal is None:
            return None, False
        courier = Courier(journal, self.inner, self._gate, fresh=not found, finished=self._ended)
        self._couriers[journal.key] = courier
        return courier, not found

    def _ended(self, courier: Courier) -> bool:
        with self._lock:
            if (
                courier.writers
                or not courier.over
                or (courier.journal.waiting() and not courier.journal.is_blocked())
            ):
                return False
            self._couriers.pop(courier.journal.key, None)
            courier.journal.close()
            return True

    def _give_up(self, courier: Courier, *, new: bool) -> None:
        """Raise why the store refused to open a run; nothing of a new one is kept."""
        assert courier.refusal is not None
        if new:
            with self._lock:
                self._couriers.pop(courier.journal.key, None)
                courier.journal.drop()
            courier.stop()
            courier.join(_STOP_SECONDS)
        raise courier.refusal

    def _patience(self) -> float:
        return self.patience if self.uri.startswith("http") else self.local_patience

    def _key(self, run_id: str) -> str | None:
        """Return the key of a run's journal, None where it has none here."""
        key = pending_key(run_id)
        if key is not None:
            return key
        courier = self._live(run_id)
        if courier is not None:
            return courier.journal.key
        folder = find(self.folder, run_id, self.uri)
        return None if folder is None else folder.name

    def _live(self, run_id: str) -> Courier | None:
        """Return who delivers a run here just now."""
        key = pending_key(run_id)
        if key is not None:
            return self._couriers.get(key)
        return next((one for one in self._couriers.values() if one.journal.known_id == run_id), None)

    def _known_id(self, run_id: str) -> str | None:
        """Return the store's own id of a run, None where a pending one has none yet."""
        key = pending_key(run_id)
        if key is None:
            return run_id
        courier = self._couriers.get(key)
        known = None if courier is None else courier.journal.known_id
        return known or run_in_store(self.inner, run_id)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the store's answer.

        Raises:
            UnavailableError: there was none within a few seconds.
        """
        if self._gate.is_shut:
            raise UnavailableError(self._gate.reason)
        answers: list[Answer] = []
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                answers.append(question())
            except BaseException as error:  # noqa: BLE001  # raised below
                errors.append(error)

        thread = threading.Thread(target=ask, name="asking the store", daemon=True)
        thread.start()
        thread.join(self._patience())
        if thread.is_alive():
            errors.append(UnavailableError(f"{self.uri} did not answer within {self._patience():g} seconds"))
        for error in errors:
            if isinstance(error, UnavailableError):
                self._gate.shut(str(error))
            raise error
        return answers[0]

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


def _attempt() -> str:
    """Return a new name of an attempt; later ones are greater, but for what the clocks of machines differ by."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
