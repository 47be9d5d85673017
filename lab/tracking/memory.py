"""A tracker in memory that ends with the process: for tests, and for training without a store."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lab import data, tracking
from lab.errors import TrackingError
from lab.hold import Hold
from lab.tracking.base import (
    Left,
    Metric,
    Place,
    Registered,
    RunRecord,
    RunStatus,
    artifact_path,
    check_aliases,
    no_model,
)
from lab.tracking.known import Known
from lab.tracking.lifecycle import known_ids, pending_ids
from lab.tracking.run import Run, now
from lab.tracking.tags import Tag
from lab.tracking.writes import Dataset, Write

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from lab.data import Intake

__all__ = ["MemoryRun", "MemoryTracker"]


@dataclass
class _Stored:
    """Everything known of one run; re-opening the run keeps it."""

    run_id: str
    experiment: str
    name: str
    start_time: int
    status: RunStatus = RunStatus.RUNNING
    end_time: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[str, dict[int, float]] = field(default_factory=dict)  # metric -> step -> value
    artifacts: dict[str, bytes] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: bool = False

    @property
    def metrics(self) -> dict[str, float]:
        return {name: by_step[max(by_step)] for name, by_step in self.points.items()}


class MemoryRun(Run):
    """A `Run` of a `MemoryTracker`, which is a `RunStore` itself."""

    def __init__(
        self, stored: _Stored, lock: threading.RLock, hold: Hold | None = None, *, reopened: bool = False
    ) -> None:
        self._stored = stored
        self._lock = lock
        self._hold = hold or Hold()
        points = {name: dict(steps) for name, steps in stored.points.items()} if reopened else {}
        latest = {
            name: Metric(name, steps[max(steps)], max(steps), stored.start_time)
            for name, steps in points.items()
        }
        self._known = Known(latest, points.__getitem__)

    @property
    def run_id(self) -> str:
        """The id to re-open it with."""
        return self._stored.run_id

    @property
    def url(self) -> str | None:
        """None: no server shows it."""
        return None

    def write(self, write: Write) -> None:
        """Carry out one write."""
        write.put(self)

    def leave(self) -> None:
        """Write nothing more."""
        self._hold.lose()

    def log_batch(
        self,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        only_missing: bool = False,
    ) -> None:
        """Log metrics and params and set tags: see `RunStore.log_batch`."""
        with self._writing():
            for metric in metrics:
                if not self._known.has(metric, only_missing=only_missing):
                    self._stored.points.setdefault(metric.name, {})[metric.step] = metric.value
            self._stored.params = {**(params or {}), **self._stored.params}
            self._stored.tags.update(tags or {})

    def delete_tags(self, names: Sequence[str]) -> None:
        """Delete the tags that the run has of `names`."""
        with self._writing():
            for name in names:
                self._stored.tags.pop(name, None)

    def log_artifact(self, path: str, source: Path | bytes, *, table: bool = False) -> None:
        """Store a file, or the contents of one, as the artifact `path`."""
        try:
            content = source if isinstance(source, bytes) else source.read_bytes()
        except OSError as error:
            raise TrackingError(f"Storing {path} (run {self.run_id}) failed in memory: {error}") from None
        with self._writing():
            self._stored.artifacts[path] = content

    def delete_artifact(self, path: str) -> None:
        """Delete the artifact `path` if there is one."""
        with self._writing():
            self._stored.artifacts.pop(path, None)

    def log_inputs(self, dataset: Dataset) -> None:
        """Record a dataset as an input of the run."""
        values = dataset.payload()
        with self._writing():
            self._stored.datasets[values.pop("name")] = values

    def log_outputs(self, folder: Path) -> None:
        """Keep the model that was saved in `folder` as the artifact `model/data/model.pt2`."""
        self.log_artifact("model/data/model.pt2", folder / "model.pt2")
        if (folder / data.INTAKE).exists():
            self.log_artifact(f"model/{data.INTAKE}", folder / data.INTAKE)

    def log_input_model(self, run_id: str) -> None:
        """Record the run that this one began with the model of."""
        self.log_batch(tags={Tag.INIT_FROM_RUN: run_id})

    def set_terminated(self, status: RunStatus, timestamp: int | None) -> None:
        """End the run."""
        with self._writing():
            self._stored.status = status
            self._stored.end_time = now() if timestamp is None else timestamp

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._hold.confirm(anew=True)
        with self._lock:
            yield

    def _save_model(self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None) -> None:
        _save_model(model, example, folder, intake)


class MemoryTracker:
    """Experiments and runs in this process's memory; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._experiments: dict[str, str] = {}  # id by name
        self._deleted: set[str] = set()  # ids
        self._presented: dict[str, dict[str, Any]] = {}  # by id
        self._runs: dict[str, _Stored] = {}  # by id, oldest first
        self._registered: dict[str, list[str]] = {}  # the run of each version, by the model's name
        self._aliases: dict[tuple[str, str], str] = {}  # version by model and alias

    @property
    def uri(self) -> str:
        """The address of the runs, for display."""
        return "memory"

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`, creating it if it does not exist.

        Raises:
            TrackingError: it was deleted.
        """
        with self._lock:
            identity = self._experiments.setdefault(name, str(len(self._experiments) + 1))
        if identity in self._deleted:
            raise TrackingError(f"The experiment '{name}' was deleted. Restore it, or choose another name.")
        return identity

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None if there is none."""
        identity = self._experiments.get(name)
        return None if identity in self._deleted else identity

    def experiment_name(self, identity: str) -> str | None:
        """Return the name of the experiment with this id, or None if there is none."""
        return next((name for name, known in self._experiments.items() if known == identity), None)

    def delete_experiment(self, name: str) -> None:
        """Delete the experiment called `name` and its runs, as a user may do in the MLflow UI."""
        identity = self._experiments[name]
        self._deleted.add(identity)
        for stored in self._matching(identity, {}):
            stored.deleted = True

    def delete_run(self, run_id: str) -> None:
        """Delete a run: see `Tracker.delete_run`."""
        self._stored(run_id).deleted = True

    def present(
        self,
        experiment: str,
        *,
        description: str,
        varied: Sequence[str],
        descending: bool = True,
        metrics: Sequence[str] = (),
    ) -> None:
        """Keep how the experiment is to be shown."""
        with self._lock:
            known = self._presented.get(experiment, {}).get("description")
            self._presented[experiment] = {
                "description": known or description,
                "varied": tuple(varied),
                "descending": descending,
                "metrics": tuple(metrics),
            }

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
    ) -> MemoryRun:
        """Create a run, or re-open the one with `run_id`: see `Tracker.open_run`."""
        if hold is not None:
            hold.confirm(anew=True)
        with self._lock:
            if run_id is None:
                if experiment not in self._experiments.values():
                    raise TrackingError(
                        f"Creating the run '{name}' failed in memory: no experiment {experiment}."
                    )
                began = now() if timestamp is None else timestamp
                stored = _Stored(uuid.uuid4().hex, experiment, name, began)
                self._runs[stored.run_id] = stored
            else:
                stored = self._stored(run_id)
                stored.name, stored.status, stored.end_time = name, RunStatus.RUNNING, None
            stored.tags.update(tags)
            if parent_run_id is not None:
                stored.tags[Tag.PARENT] = parent_run_id
        return MemoryRun(stored, self._lock, hold, reopened=run_id is not None)

    def attach(self, run_id: str) -> MemoryRun:
        """Return a run for writing without re-opening it."""
        return MemoryRun(self._stored(run_id), self._lock, reopened=True)

    def model_run(self, uri: str) -> str:
        """Return the id of the run that a registered model came from: see `Tracker.model_run`."""
        name, at, alias = uri.removeprefix("models:/").rpartition("@")
        if not at:
            name, _, alias = alias.rpartition("/")
        version = self._aliases.get((name, alias)) if at else alias
        runs = self._registered.get(name, [])
        if version is None or not version.isdecimal() or not 0 < int(version) <= len(runs):
            raise TrackingError(f"There is no model {uri} in memory.")
        return runs[int(version) - 1]

    def register(
        self, run_id: str, name: str, *, aliases: Sequence[str] = (), description: str = ""
    ) -> Registered:
        """Register the model of a run under `name`: see `Tracker.register`."""
        check_aliases(aliases)
        with self._lock:
            if "model/data/model.pt2" not in self._stored(run_id).artifacts:
                raise no_model(run_id)
            runs = self._registered.setdefault(name, [])
            is_new = run_id not in runs
            if is_new:
                runs.append(run_id)
            version = str(runs.index(run_id) + 1)
            self._aliases |= {(name, alias): version for alias in aliases}
        return Registered(name, version, is_new)

    def find_runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all of `tags`, oldest first."""
        return [stored.run_id for stored in self._matching(experiment, tags)]

    def experiment_of(self, run_id: str) -> str:
        """Return the id of a run's experiment."""
        with self._lock:
            return self._stored(run_id).experiment

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        with self._lock:
            return dict(self._stored(run_id).tags)

    def dataset_digests(self, run_id: str) -> set[tuple[str, str]]:
        """Return the names and digests of a run's datasets."""
        return {(name, str(dataset["digest"])) for name, dataset in self.datasets(run_id).items()}

    def record(self, run_id: str) -> RunRecord:
        """Return what is known of a run."""
        with self._lock:
            return _record(self._stored(run_id))

    def places(self, run_id: str) -> list[Place]:
        """Return that the artifacts of a run are in memory."""
        with self._lock:
            self._stored(run_id)
        return [Place("memory")]

    def status(self, run_id: str) -> RunStatus:
        """Return the status of a run."""
        return self._stored(run_id).status

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
        found = self._matching(experiment, tags or {})[::-1]
        if order_by is not None:
            found.sort(key=_by_metric(order_by, descending))
        return _frame(found[:limit], metrics)

    def deleted_runs(self) -> pd.DataFrame:
        """Return a row for each deleted run."""
        return _frame(self._matching(None, {}, deleted=True)[::-1])

    def missing_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return those of `run_ids` that were deleted or no longer exist."""
        with self._lock:
            there = {stored.run_id for stored in self._runs.values() if not stored.deleted}
            deleted = pending_ids(stored.tags for stored in self._runs.values() if stored.deleted)
            return (known_ids(run_ids) - there) | deleted.intersection(run_ids)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return all values of `metric` by step, in order of the steps; empty if it was never logged."""
        with self._lock:
            return dict(sorted(self._stored(run_id).points.get(metric, {}).items()))

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return all values of `metrics` of many runs, a row for each: see `Tracker.curves`."""
        with self._lock:
            points = [
                (run_id, metric, step, value)
                for run_id in run_ids
                if run_id in self._runs
                for metric in metrics
                for step, value in self._runs[run_id].points.get(metric, {}).items()
            ]
        return tracking.curve_frame(points, run_ids, metrics)

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`, under its own name; return the copy, None if there is none."""
        content = self._stored(run_id).artifacts.get(artifact_path(path))
        if content is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / PurePosixPath(path).name
        file.write_bytes(content)
        return file

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each artifact of a run below `folder` by its path."""
        below = f"{artifact_path(folder)}/" if folder else ""
        found = self._stored(run_id).artifacts
        return {path: len(content) for path, content in found.items() if path.startswith(below)}

    def delete_files(self, run_id: str, paths: Sequence[str] | None = None) -> None:
        """Delete artifacts of a run, all of them if `paths` is None."""
        with self._lock:
            stored = self._stored(run_id)
            for path in list(stored.artifacts) if paths is None else map(artifact_path, paths):
                stored.artifacts.pop(path, None)

    def save_model(
        self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None = None
    ) -> None:
        """Write `model`, exported, to the new folder `folder`."""
        _save_model(model, example, folder, intake)

    def flush(self, timeout: float = 10.0, patience: float = math.inf) -> Left:
        """Return that nothing is left: every write is here at once."""
        return Left()

    def artifacts(self, run_id: str) -> dict[str, bytes]:
        """Return the contents of a run's artifacts by path."""
        return dict(self._stored(run_id).artifacts)

    def datasets(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return what `log_dataset` recorded on a run, by the dataset's name."""
        return dict(self._stored(run_id).datasets)

    def presented(self, experiment: str) -> dict[str, Any]:
        """Return what `present` arranged for an experiment."""
        return dict(self._presented.get(experiment, {}))

    def _stored(self, run_id: str) -> _Stored:
        try:
            return self._runs[run_id]
        except KeyError:
            raise TrackingError(f"There is no run {run_id} in memory.") from None

    def _matching(
        self, experiment: str | None, tags: Mapping[str, str], *, deleted: bool = False
    ) -> list[_Stored]:
        with self._lock:
            return [
                stored
                for stored in self._runs.values()
                if stored.deleted is deleted
                and experiment in (None, stored.experiment)
                and tags.items() <= stored.tags.items()
            ]


def _frame(found: Sequence[_Stored], metrics: Collection[str] | None = None) -> pd.DataFrame:
    return tracking.run_frame([_record(stored) for stored in found], metrics)


def _record(stored: _Stored) -> RunRecord:
    return RunRecord(
        stored.run_id,
        stored.name,
        stored.status,
        stored.start_time,
        stored.end_time,
        dict(stored.params),
        stored.metrics,
        dict(stored.tags),
    )


def _by_metric(name: str, descending: bool) -> Callable[[_Stored], tuple[int, float]]:
    def key(stored: _Stored) -> tuple[int, float]:
        value = stored.metrics.get(name)
        if value is None or math.isnan(value):
            return (2 if value is None else 1, 0.0)
        return (0, -value if descending else value)

    return key


def _save_model(model: nn.Module, example: Tensor, folder: Path, intake: Intake | None) -> None:
    content = tracking.export_bytes(model, example)
    folder.mkdir(parents=True)
    (folder / "model.pt2").write_bytes(content)
    if intake is not None:
        (folder / data.INTAKE).write_text(intake.to_json())
