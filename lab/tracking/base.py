"""What the rest of lab asks of a tracker: `Tracker` finds and opens runs (`lab.tracking.run.Run`), `Reader` reads them.

The words are MLflow's. Store failures raise `TrackingError`, from any method.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from lab.errors import TrackingError
from lab.hold import Hold
from lab.places import without_queried_password
from lab.wording import counted

if TYPE_CHECKING:  # `lab --help` must not wait for any of them
    import pandas as pd
    from torch import Tensor, nn

    from lab.data import Intake
    from lab.tracking.run import Run

__all__ = [
    "FROM_THE_START",
    "DeniedError",
    "Left",
    "Metric",
    "Place",
    "Reader",
    "Registered",
    "RunQuery",
    "RunRecord",
    "RunStatus",
    "Tracker",
    "UnavailableError",
    "artifact_path",
    "check_aliases",
    "no_model",
    "public_uri",
]

_ALIAS: Final = re.compile(r"[\w-]+")
_RESERVED: Final = re.compile(r"latest|v\d+", re.IGNORECASE)


class RunStatus(StrEnum):
    """The status of a run, in MLflow's words."""

    RUNNING = "RUNNING"
    SCHEDULED = "SCHEDULED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class DeniedError(TrackingError):
    """The store denies this account the action: in a team's service, deleting what another account made."""


class UnavailableError(TrackingError):
    """The store is unreachable or too busy: the same call may succeed later."""


class Metric(NamedTuple):
    """One value of a metric; `timestamp` is when it was measured, in milliseconds since 1970.

    `FROM_THE_START` stands for the time at which the run began, which the store knows.
    """

    name: str
    value: float
    step: int
    timestamp: int


FROM_THE_START: Final = 0  # in a journal too


class Place(NamedTuple):
    """Where files are kept.

    `exists` is also True if that cannot be checked from here. `own` tells whether the folder is one of the store's own,
    so that nothing in it belongs to anyone else.
    """

    uri: str
    exists: bool = True
    own: bool = True


@dataclass(frozen=True)
class Left:
    """What the store has not acknowledged yet: `writes` of `runs` runs, of which it has refused `refused` for good."""

    writes: int = 0
    runs: int = 0
    refused: int = 0

    def __bool__(self) -> bool:
        return self.writes > 0

    def __str__(self) -> str:
        refused = f" ({self.refused:,} of them refused)" if self.refused else ""
        return f"{counted(self.writes, 'write')} of {counted(self.runs, 'run')}{refused}"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `is_new` is whether it was made just now."""

    name: str
    version: str
    is_new: bool

    @property
    def uri(self) -> str:
        """The address by which `Tracker.model_run` finds it."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class RunRecord:
    """What a tracker knows of one run; times in milliseconds since 1970."""

    run_id: str
    name: str
    status: RunStatus
    start_time: int
    end_time: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunQuery:
    """Which runs are wanted, in which order; see the arguments of `Reader.runs`.

    With `deleted`, those that were deleted, also of deleted experiments.
    """

    experiment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    order_by: str | None = None
    descending: bool = True
    limit: int | None = None
    metrics: Collection[str] | None = None
    deleted: bool = False


class Reader(Protocol):
    """The runs of a store, read by the thousands; the argument `experiment` is always an experiment's id."""

    @property
    def uri(self) -> str:
        """The address of the store for display, without a password."""

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None if there is none."""

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
        """Return a row for each run that has all of `tags`; deleted runs do not count.

        Args:
            experiment: id of the experiment; None for all of them.
            tags: that the runs must have.
            order_by: metric to order by, NaN and missing last; newest first if None.
            descending: whether its highest value comes first.
            limit: maximum number of rows to return.
            metrics: names of the only ones to return, where `test_*` stands for all that begin so; all if None.

        Returns:
            Columns run_id, name, status, start_time and end_time (UTC, NaT while running), then one for each
            `params.*` (text), `metrics.*` (the last value) and `tags.*` (text) that any of the runs has.
        """

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`, under its own name; return the copy, None if there is none."""


class Tracker(Reader, Protocol):
    """A store of experiments and their runs."""

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`, creating it if it does not exist.

        Raises:
            TrackingError: it was deleted (it can be restored), or the store failed.
        """

    def experiment_name(self, identity: str) -> str | None:
        """Return the name of the experiment with this id, None if there is none; a deleted one still has its name."""

    def present(
        self,
        experiment: str,
        *,
        description: str,
        varied: Sequence[str],
        descending: bool = True,
        metrics: Sequence[str] = (),
    ) -> None:
        """Arrange how the MLflow UI shows the experiment of a study.

        It gets the description, unless it has one, and the saved view `Leaderboard`: the trials (runs with
        the tag `lab.kind` = `trial`) ordered by `best_value`, with the columns and charts that compare them.

        Args:
            experiment: id of the experiment.
            description: Markdown; may be empty.
            varied: the params that differ between the trials.
            descending: whether the highest `best_value` is the best.
            metrics: those that the trials log in addition to loss and accuracy, such as `auroc`.
        """

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
    ) -> Run:
        """Create a run, or re-open the one with `run_id`.

        A re-opened run is RUNNING again, is renamed, gets `tags` and `parent_run_id`, and keeps all else.

        Args:
            name: shown in the UI.
            experiment: id of the experiment; a re-opened run stays in its own.
            tags: to set on it.
            parent_run_id: run that it is shown under.
            run_id: run to re-open.
            system_metrics: whether to log the machine's CPU, memory and GPU use until the run ends.
            timestamp: when a new run began, in milliseconds since 1970; now if None.
            hold: on the run's trial, confirmed before every write.

        Raises:
            Lost: another worker has the trial. Every write to the run may raise it too.
        """

    def attach(self, run_id: str) -> Run:
        """Return a run for writing without re-opening it: its status and times stay as they are.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def model_run(self, uri: str) -> str:
        """Return the id of the run that a registered model came from.

        Args:
            uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`; in MLflow's stores also `models:/ID`.

        Raises:
            TrackingError: there is no such model, it came from no run, or the store failed.
        """

    def register(
        self, run_id: str, name: str, *, aliases: Sequence[str] = (), description: str = ""
    ) -> Registered:
        """Register the model of a run under `name`; a run that is registered there already gets no second version.

        Args:
            run_id: of the run.
            name: of the registered model, which is made if there is none.
            aliases: names for this version, such as `champion`; each moves here from the version that had it.
            description: of the version, in Markdown; it replaces an older one.

        Raises:
            TrackingError: the run has no model, the store has no registry or refuses a name, or it failed.
        """

    def find_runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all of `tags`, oldest first; deleted runs do not count.

        Args:
            experiment: id of the experiment; None for all of them.
            tags: that the runs must have.
        """

    def experiment_of(self, run_id: str) -> str:
        """Return the id of a run's experiment.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def dataset_digests(self, run_id: str) -> set[tuple[str, str]]:
        """Return the names and digests of the datasets that `Run.log_dataset` recorded on a run.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def record(self, run_id: str) -> RunRecord:
        """Return what is known of a run.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def places(self, run_id: str) -> list[Place]:
        """Return where the artifacts of a run are kept, then those of each model it logged; also for a deleted run.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def status(self, run_id: str) -> RunStatus:
        """Return the status of a run.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def delete_run(self, run_id: str) -> None:
        """Delete a run: it is no longer found, and can be restored until its files are deleted.

        Raises:
            TrackingError: there is no such run, or the store failed.
        """

    def deleted_runs(self) -> pd.DataFrame:
        """Return a row, as `runs` does, for each deleted run, unless a registered model came from it."""

    def missing_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return those of `run_ids` that were deleted or no longer exist.

        A pending id is missing if the store has had its run and that is deleted; a purged one is not known any more.
        """

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return all values of `metric` by step, in order of the steps; empty if it was never logged."""

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return all values of `metrics` of many runs, read together: `history` of each takes far longer.

        Args:
            run_ids: of the runs; those that do not exist, or that the store does not have yet, have no rows.
            metrics: by name.

        Returns:
            Columns run_id, metric (both text), step (int64) and value (float64), with a row for each point, in the
            order of `run_ids`, then of `metrics`, then of the steps.
        """

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each artifact of a run by its path, also for a deleted run.

        Args:
            run_id: of the run.
            folder: only those below this one. Without it the files of the run's models, which a store may keep
                elsewhere, are included.
        """

    def delete_files(self, run_id: str, paths: Sequence[str] | None = None) -> None:
        """Delete artifacts of a run, also of a deleted one; a missing one is no error.

        Args:
            run_id: of the run.
            paths: of the artifacts to delete; all of them, and the run's models, if None.

        Raises:
            TrackingError: they are not in the store's own folders, or the store failed.
        """

    def save_model(
        self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None = None
    ) -> None:
        """Write `model` to the new folder `folder`, in this store's own format; the store itself is not involved.

        Args:
            model: as `Run.log_model` takes it.
            example: as `Run.log_model` takes it.
            folder: to pass to `Run.log_saved_model`.
            intake: as `Run.log_model` takes it.

        Raises:
            TrackingError: the model cannot be exported.
        """

    def flush(self, timeout: float = 10.0, patience: float = math.inf) -> Left:
        """Wait until the store has all writes; return what it still lacks.

        Args:
            timeout: seconds to wait at most.
            patience: seconds to wait at most if the store does not answer.
        """


def public_uri(uri: str) -> str:
    """Return `uri` without user name and password."""
    parts = urlsplit(uri)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri
    return without_queried_password(bare)


def artifact_path(path: str) -> str:
    """Return `path` if it is a relative path inside a run's artifacts.

    Raises:
        TrackingError: it is absolute, empty or leads out of them (`..`).
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts:
        raise TrackingError(f"An artifact's path must stay inside the run's artifacts, but got {path!r}")
    return path


def check_aliases(aliases: Sequence[str]) -> None:
    """Check names of a registered model's version by MLflow's rules, before anything is registered.

    Raises:
        TrackingError: one is not allowed.
    """
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise TrackingError(f"An alias has only letters, digits, _ and -, but got {alias!r}")
        if _RESERVED.fullmatch(alias):
            raise TrackingError(f"The alias {alias!r} is MLflow's own; choose another, such as champion")


def no_model(run_id: str) -> TrackingError:
    """Return an error that says why a run has no model, and how it gets one."""
    return TrackingError(
        f"Run {run_id} has no model: only finished trials of a study or of `lab train` have one. If it was pruned,"
        f" `lab errors {run_id}` tests it and logs its model"
    )
