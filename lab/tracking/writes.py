"""What can be written to a run: one type for each kind of write.

A write is a value. It puts itself to a run in a store (`put`), and turns itself into a row of a journal and back
(`payload`, `save`, `read`). A new kind of write is a new class here, listed in `WRITES`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, Self

from lab.errors import TrackingError
from lab.tracking.base import Metric, RunStatus

__all__ = [
    "WRITES",
    "Batch",
    "Dataset",
    "Delete",
    "End",
    "File",
    "Metrics",
    "Model",
    "Open",
    "Origin",
    "Params",
    "RemoveTags",
    "RunStore",
    "Tags",
    "Unknown",
    "Write",
    "merged",
    "read_write",
]


class RunStore(Protocol):
    """The requests that a store takes for one run, in MLflow's words.

    Each of them may be repeated: a batch, an artifact or an input that is already there is not added again.
    """

    def log_batch(
        self,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        only_missing: bool = False,
    ) -> None:
        """Log metrics and params and set tags.

        A param that the run already has keeps its value. A run that was re-opened keeps the metric values it has
        (see `lab.tracking.known`).

        Args:
            metrics: values of metrics; those logged `FROM_THE_START` are dated to the run's start.
            params: by name.
            tags: by name; older values are replaced.
            only_missing: leave out even the new value of a metric without steps.
        """

    def delete_tags(self, names: Sequence[str]) -> None:
        """Delete the tags that the run has of `names`."""

    def log_artifact(self, path: str, source: Path | bytes, *, table: bool = False) -> None:
        """Store a file, or the contents of one, as the artifact `path`; `table` has the UI show it as a table."""

    def delete_artifact(self, path: str) -> None:
        """Delete the artifact `path` if there is one."""

    def log_inputs(self, dataset: Dataset) -> None:
        """Record a dataset as an input of the run."""

    def log_outputs(self, folder: Path) -> None:
        """Log the model saved in `folder` as the run's model `model`, in place of an older one."""

    def log_input_model(self, run_id: str) -> None:
        """Record the model of another run as an input of this one, and say so in a tag."""

    def set_terminated(self, status: RunStatus, timestamp: int | None) -> None:
        """End the run."""


@dataclass(frozen=True)
class Write:
    """One write to a run."""

    kind: ClassVar[str]  # its name in a journal
    is_mergeable: ClassVar[bool] = False  # whether it fits into one request with others before and after it
    is_kept: ClassVar[bool] = False  # whether a journal keeps it after delivery, until the run is over
    is_vital: ClassVar[bool] = False  # whether the store must get it even if the journal has no room for it
    is_optional: ClassVar[bool] = False  # whether a store may deny it
    is_final: ClassVar[bool] = False  # whether nothing follows it
    has_file: ClassVar[bool] = False  # whether a file or folder belongs to it

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store.

        Raises:
            TrackingError: the store failed or refused.
        """
        raise NotImplementedError

    def payload(self) -> dict[str, Any]:
        """Return the values for a journal, as JSON takes them; files are left out."""
        return asdict(self)

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload, and this file if it has one."""
        return cls(**payload)

    @classmethod
    def merge(cls, writes: Sequence[Self]) -> Self:
        """Return one write that does what `writes`, all of this mergeable type, do one after another."""
        raise NotImplementedError

    @property
    def replaces(self) -> str | None:
        """Path of an artifact: an earlier write with the same one is obsolete. None if this replaces nothing."""
        return None

    @property
    def file_name(self) -> str:
        """Name of the file or folder that belongs to this write, if it has one."""
        return ""

    def save(self, place: Path) -> None:
        """Write its file or folder to the new path `place`."""

    def resolved(self, find: Callable[[str], str | None]) -> Self:
        """Return this write with the ids of pending runs replaced by the store's own, where `find` knows them."""
        return self


@dataclass(frozen=True)
class Open(Write):
    """Creates a run, or re-opens the one with `run_id`: see `Tracker.open_run`, which carries it out."""

    kind: ClassVar[str] = "open"

    name: str
    experiment: str
    tags: Mapping[str, str]
    parent_run_id: str | None = None
    run_id: str | None = None
    timestamp: int | None = None

    def resolved(self, find: Callable[[str], str | None]) -> Self:
        """Return this write with the parent's own id, where `find` knows it."""
        return (
            self
            if self.parent_run_id is None
            else replace(self, parent_run_id=_own(self.parent_run_id, find))
        )


@dataclass(frozen=True)
class Params(Write):
    """Logs params; one that the run already has keeps its value."""

    kind: ClassVar[str] = "params"
    is_mergeable: ClassVar[bool] = True

    params: Mapping[str, str]

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_batch(params=self.params)

    @classmethod
    def merge(cls, writes: Sequence[Self]) -> Self:
        """Return one write; the first value of a param counts."""
        return cls({name: value for one in reversed(writes) for name, value in one.params.items()})


@dataclass(frozen=True)
class Metrics(Write):
    """Logs values of metrics.

    Args:
        metrics: the values.
        only_missing: log only those for whose step the run has no value yet; not for a journal.
    """

    kind: ClassVar[str] = "metrics"
    is_mergeable: ClassVar[bool] = True
    is_kept: ClassVar[bool] = True

    metrics: Sequence[Metric]
    only_missing: bool = False

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_batch(metrics=self.metrics, only_missing=self.only_missing)

    def payload(self) -> dict[str, Any]:
        """Return the values for a journal."""
        return {"points": [list(metric) for metric in self.metrics]}

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload."""
        return cls(tuple(Metric(*point) for point in payload["points"]))

    @classmethod
    def merge(cls, writes: Sequence[Self]) -> Self:
        """Return one write with all values, in order."""
        return cls(tuple(metric for one in writes for metric in one.metrics))


@dataclass(frozen=True)
class Tags(Write):
    """Sets tags, replacing older values."""

    kind: ClassVar[str] = "tags"
    is_mergeable: ClassVar[bool] = True
    is_vital: ClassVar[bool] = True

    tags: Mapping[str, str]

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_batch(tags=self.tags)

    @classmethod
    def merge(cls, writes: Sequence[Self]) -> Self:
        """Return one write; the last value of a tag counts."""
        return cls({name: value for one in writes for name, value in one.tags.items()})


@dataclass(frozen=True)
class Batch(Write):
    """Does what several params, metrics and tags do, in one request; never in a journal, which keeps each of them."""

    kind: ClassVar[str] = "batch"

    params: Mapping[str, str]
    metrics: Sequence[Metric]
    tags: Mapping[str, str]

    @classmethod
    def of(cls, writes: Sequence[Write]) -> Self:
        """Return what `writes`, all of mergeable types, do one after another."""
        return cls(
            Params.merge([one for one in writes if isinstance(one, Params)]).params,
            Metrics.merge([one for one in writes if isinstance(one, Metrics)]).metrics,
            Tags.merge([one for one in writes if isinstance(one, Tags)]).tags,
        )

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_batch(metrics=self.metrics, params=self.params, tags=self.tags)


@dataclass(frozen=True)
class RemoveTags(Write):
    """Removes tags, where the run has them."""

    kind: ClassVar[str] = "untag"

    names: Sequence[str]

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.delete_tags(self.names)

    def payload(self) -> dict[str, Any]:
        """Return the values for a journal."""
        return {"names": list(self.names)}

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload."""
        return cls(tuple(payload["names"]))


@dataclass(frozen=True)
class File(Write):
    """Stores a file as the artifact `path`, replacing an older one.

    Args:
        path: of the artifact.
        source: the local file, or the contents.
        table: whether the UI shows it as a table.
        passing: whether it is only of use until the run ends: who writes it deletes it then.
    """

    kind: ClassVar[str] = "file"
    has_file: ClassVar[bool] = True

    path: str
    source: Path | bytes
    table: bool = False
    passing: bool = False

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_artifact(self.path, self.source, table=self.table)

    def payload(self) -> dict[str, Any]:
        """Return the values for a journal."""
        passing = {"passing": True} if self.passing else {}  # which earlier versions' journals lack
        return {"path": self.path, "table": self.table, **passing}

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload and file."""
        assert file is not None
        return cls(payload["path"], file, payload["table"], payload.get("passing", False))

    @property
    def replaces(self) -> str | None:
        """The artifact that is stored."""
        return self.path

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.path).name

    def save(self, place: Path) -> None:
        """Write the file to the new path `place`."""
        if isinstance(self.source, bytes):
            place.write_bytes(self.source)
        else:
            shutil.copyfile(self.source, place)


@dataclass(frozen=True)
class Delete(Write):
    """Deletes the artifact `path`, if there is one."""

    kind: ClassVar[str] = "delete"
    is_optional: ClassVar[bool] = True  # the owner of the experiment may delete it, other accounts may not

    path: str

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.delete_artifact(self.path)

    @property
    def replaces(self) -> str | None:
        """The artifact that is deleted."""
        return self.path


@dataclass(frozen=True)
class Dataset(Write):
    """Records what the run was trained on: see `Run.log_dataset`."""

    kind: ClassVar[str] = "dataset"
    is_kept: ClassVar[bool] = True

    name: str
    digest: str
    source: str
    shape: Sequence[int]
    classes: Sequence[str]
    images: Mapping[str, int]
    context: str = "training"

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_inputs(self)

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload."""
        lists = {name: tuple(payload[name]) for name in ("shape", "classes")}
        return cls(**{**payload, **lists})


@dataclass(frozen=True)
class Model(Write):
    """Logs a model as the run's model `model`, in place of an older one.

    Args:
        source: the folder that `Tracker.save_model` wrote, or what writes one to the path it is given.
    """

    kind: ClassVar[str] = "model"
    has_file: ClassVar[bool] = True
    name: ClassVar[str] = "model"

    source: Path | Callable[[Path], object]

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        with self._folder() as folder:
            run.log_outputs(folder)

    def payload(self) -> dict[str, Any]:
        """Return nothing: all of it is in the folder."""
        return {}

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this folder."""
        assert file is not None
        return cls(file)

    @property
    def replaces(self) -> str | None:
        """The run's model."""
        return f"{self.name}/"

    @property
    def file_name(self) -> str:
        """Name of the folder."""
        return self.name

    def save(self, place: Path) -> None:
        """Write the model to the new folder `place`."""
        if isinstance(self.source, Path):
            shutil.copytree(self.source, place)
        else:
            self.source(place)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        if isinstance(self.source, Path):
            yield self.source
            return
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, self.name)
            self.source(folder)
            yield folder


@dataclass(frozen=True)
class Origin(Write):
    """Records that the run began with the model of the run `run_id`."""

    kind: ClassVar[str] = "origin"

    run_id: str

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.log_input_model(self.run_id)

    def resolved(self, find: Callable[[str], str | None]) -> Self:
        """Return this write with the run's own id, where `find` knows it."""
        return replace(self, run_id=_own(self.run_id, find))


@dataclass(frozen=True)
class End(Write):
    """Ends the run with `status`, at `timestamp` (milliseconds since 1970; now if None)."""

    kind: ClassVar[str] = "end"
    is_vital: ClassVar[bool] = True
    is_final: ClassVar[bool] = True

    status: RunStatus
    timestamp: int | None = None

    def put(self, run: RunStore) -> None:
        """Write this to a run in a store."""
        run.set_terminated(self.status, self.timestamp)

    def payload(self) -> dict[str, Any]:
        """Return the values for a journal."""
        return {"status": str(self.status), "timestamp": self.timestamp}

    @classmethod
    def read(cls, payload: Mapping[str, Any], file: Path | None = None) -> Self:
        """Return the write with this payload."""
        return cls(RunStatus(payload["status"]), payload["timestamp"])


@dataclass(frozen=True)
class Unknown(Write):
    """A write that another version of lab has journaled; no store takes it."""

    kind: str  # type: ignore[misc]

    def put(self, run: RunStore) -> None:
        """Raise: nobody knows what it means."""
        raise TrackingError(
            f"The journal has an operation '{self.kind}', which this version of lab does not know"
        )


WRITES: Mapping[str, type[Write]] = {
    each.kind: each
    for each in (Open, Params, Metrics, Tags, RemoveTags, File, Delete, Dataset, Model, Origin, End)
}


def read_write(kind: str, payload: Mapping[str, Any], file: Path | None = None) -> Write:
    """Return the write that a journal keeps under `kind` with this payload and file."""
    known = WRITES.get(kind)
    if known is None or (known.has_file and file is None):
        return Unknown(kind)
    return known.read(payload, file)


def merged(writes: Sequence[Write]) -> Write:
    """Return one write that does what `writes` do one after another: a single one, or several of mergeable types."""
    kinds = {type(one) for one in writes}
    if len(kinds) > 1:
        return Batch.of(writes)
    return writes[0] if len(writes) == 1 else kinds.pop().merge(writes)


def _own(run_id: str, find: Callable[[str], str | None]) -> str:
    return find(run_id) or run_id
