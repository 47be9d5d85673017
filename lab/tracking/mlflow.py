"""The tracker for real use: an MLflow server, or MLflow's own SQLite database."""

from __future__ import annotations

import getpass
import math
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lab.tracking.environment import quieten, sent_once, settle
from lab.tracking.tags import Tag

settle()  # before MLflow is imported

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import LifecycleStage, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from lab import tracking  # noqa: E402  # asked for `save_model` when that is needed: it imports torch
from lab.errors import TrackingError  # noqa: E402
from lab.hold import Hold, Lost  # noqa: E402
from lab.tracking.artifacts import delete_files, files, places, registered_runs  # noqa: E402
from lab.tracking.base import (  # noqa: E402
    Left,
    Place,
    Registered,
    RunQuery,
    RunRecord,
    RunStatus,
    artifact_path,
    check_aliases,
    public_uri,
)
from lab.tracking.client import open_client  # noqa: E402
from lab.tracking.curves import points_in_database, points_on_server  # noqa: E402
from lab.tracking.database import in_parts, true_value  # noqa: E402
from lab.tracking.frames import curve_frame, run_frame  # noqa: E402
from lab.tracking.lifecycle import known_ids, missing_in_database, pending_ids  # noqa: E402
from lab.tracking.mlflow_run import MlflowRun  # noqa: E402
from lab.tracking.rebase import local_path, shortened  # noqa: E402
from lab.tracking.registering import origin_of, register  # noqa: E402
from lab.tracking.run_tables import RunTables  # noqa: E402
from lab.tracking.translate import translated  # noqa: E402
from lab.tracking.views import view_tag  # noqa: E402
from lab.wording import counted  # noqa: E402

if TYPE_CHECKING:
    import mlflow.entities
    import pandas as pd
    from torch import Tensor, nn

    from lab.data import Intake

__all__ = ["MlflowTracker"]

# what the UI reads of an experiment: that it is not about language models, and its main metric
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "best_value",
}
_PAGE = 1000
_NEWEST = "attributes.start_time DESC"


class MlflowTracker:
    """Experiments and runs in an MLflow store. The store is contacted at the first call that needs it."""

    def __init__(
        self, tracking_uri: str, artifact_location: str | None = None, folders: Sequence[Path] = ()
    ) -> None:
        """Connect to `tracking_uri`.

        Args:
            tracking_uri: `http(s)://…`, `sqlite:///…`, or another database that MLflow knows.
            artifact_location: folder or URI that new experiments keep their artifacts under; None for the
                server's own.
            folders: on this machine whose files are the store's own, besides `artifact_location`.
        """
        self._tracking_uri = tracking_uri
        self._artifact_location = artifact_location
        location = None if artifact_location is None else local_path(artifact_location)
        self._own = [*folders, *([location] if location else [])]
        self._lock = threading.Lock()
        quieten()

    @property
    def uri(self) -> str:
        """The address of the store for display, without a password."""
        return public_uri(self._tracking_uri)

    def prepare(self) -> None:
        """Create the database and check its version, or check that the server answers and accepts the credentials.

        Raises:
            UnavailableError: it does not answer.
            TrackingError: it rejects the credentials.
        """
        client = self._client
        if self._tracking_uri.startswith("http"):
            with self._doing("connecting"):
                client.search_experiments(max_results=1)

    @cached_property
    def _client(self) -> MlflowClient:
        with self._lock, translated(self._tracking_uri, "connecting"):
            return open_client(self._tracking_uri)

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`, creating it if it does not exist.

        Raises:
            TrackingError: it was deleted, or the store failed.
        """
        found = self._lookup(name)
        if found is None:
            with self._doing(f"creating the experiment '{name}'"):
                try:
                    return str(self._client.create_experiment(name, self._location(name), _EXPERIMENT_TAGS))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            found = self._lookup(name)  # another process was faster
        if found is None or found.lifecycle_stage == LifecycleStage.DELETED:
            identity = found.experiment_id if found else "ID"
            raise TrackingError(
                f"The experiment '{name}' at {self.uri} was deleted. Restore it with `mlflow experiments "
                f"restore --experiment-id {identity}` (or in the UI), or choose another name."
            )
        return str(found.experiment_id)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None if there is none."""
        found = self._lookup(name)
        active = found is not None and found.lifecycle_stage == LifecycleStage.ACTIVE
        return str(found.experiment_id) if found is not None and active else None

    def experiment_name(self, identity: str) -> str | None:
        """Return the name of the experiment with this id, or None if there is none."""
        with self._doing(f"looking up the experiment {identity}"):
            try:
                return str(self._client.get_experiment(identity).name)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

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
        with self._doing(f"describing the experiment {experiment}"):
            found = self._client.get_experiment(experiment)
            created = found.creation_time or 0
            wanted = dict([view_tag(varied, descending=descending, created=created, metrics=metrics)])
            if description and not found.tags.get(Tag.NOTE):
                wanted[Tag.NOTE] = description
            for key, value in wanted.items():
                if found.tags.get(key) != value:
                    self._client.set_experiment_tag(experiment, key, value)

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
    ) -> MlflowRun:
        """Create a run, or re-open the one with `run_id`: see `Tracker.open_run`."""
        tags = dict(tags) if parent_run_id is None else {**tags, Tag.PARENT: parent_run_id}
        hold = hold or Hold()
        if run_id is None:
            hold.confirm(anew=True)
            with self._doing(f"creating the run '{name}'"):
                with sent_once():
                    run = self._client.create_run(
                        experiment, timestamp, {**_source_tags(), **tags}, run_name=name
                    )
                self._delete_where_lost(run.info.run_id, tags, hold)
        else:
            with self._doing(f"re-opening the run {run_id}"):
                hold.confirm(anew=True)
                # the tags first: one of them tells the previous worker that the run is no longer its own
                self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
                hold.confirm(anew=True)
                self._client.update_run(run_id, status=str(RunStatus.RUNNING), name=name)
                # last, so that nothing the previous worker logged until then is logged again
                run = self._client.get_run(run_id)
        return MlflowRun(
            self._client, run, reopened=run_id is not None, system_metrics=system_metrics, hold=hold
        )

    def _delete_where_lost(self, run_id: str, tags: Mapping[str, str], hold: Hold) -> None:
        """Delete a run that a sleeping worker made: nobody knows it, unless the trial's new worker has opened it."""
        if hold.is_lost(anew=True):
            found = self._client.get_run(run_id).data.tags
            if found.get(Tag.ATTEMPT) == tags.get(Tag.ATTEMPT):
                self._client.delete_run(run_id)
            raise Lost

    def attach(self, run_id: str) -> MlflowRun:
        """Return a run for writing without re-opening it: see `Tracker.attach`."""
        with self._doing(f"looking up the run {run_id}"):
            run = self._client.get_run(run_id)
        return MlflowRun(self._client, run, reopened=True, system_metrics=False)

    def model_run(self, uri: str) -> str:
        """Return the id of the run that a registered model came from: see `Tracker.model_run`."""
        with self._doing(f"looking up the model {uri}"):
            run_id = origin_of(self._client, uri)
        if not run_id:
            raise TrackingError(
                f"The model {uri} was not logged by a run, so there is no config to build it from"
            )
        return run_id

    def register(
        self, run_id: str, name: str, *, aliases: Sequence[str] = (), description: str = ""
    ) -> Registered:
        """Register the model of a run under `name`: see `Tracker.register`."""
        check_aliases(aliases)
        with self._doing(f"registering the model of run {run_id} as '{name}'"):
            return register(self._client, run_id, name, aliases, description)

    def find_runs(self, experiment: str | None, tags: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all of `tags`, oldest first; deleted runs do not count."""
        return [run.info.run_id for run in self._search(experiment, tags, "attributes.start_time ASC")]

    def experiment_of(self, run_id: str) -> str:
        """Return the id of a run's experiment."""
        with self._doing(f"looking up the run {run_id}"):
            return str(self._client.get_run(run_id).info.experiment_id)

    def tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        found = None if self._tables is None else self._tables.tags(run_id)
        if found is not None:
            return found
        with self._doing(f"looking up the run {run_id}"):
            return dict(self._client.get_run(run_id).data.tags)

    def dataset_digests(self, run_id: str) -> set[tuple[str, str]]:
        """Return the names and digests of a run's datasets."""
        with self._doing(f"looking up the run {run_id}"):
            inputs = self._client.get_run(run_id).inputs
        datasets = [each.dataset for each in inputs.dataset_inputs] if inputs else []
        return {(dataset.name, dataset.digest) for dataset in datasets}

    def record(self, run_id: str) -> RunRecord:
        """Return what is known of a run."""
        with self._doing(f"looking up the run {run_id}"):
            return _record(self._client.get_run(run_id))

    def places(self, run_id: str) -> list[Place]:
        """Return where the artifacts of a run and of its models are: see `Tracker.places`."""
        with self._doing(f"looking up the run {run_id}"):
            return places(self._client, run_id, self._own)

    def status(self, run_id: str) -> RunStatus:
        """Return the status of a run."""
        with self._doing(f"looking up the run {run_id}"):
            return RunStatus(self._client.get_run(run_id).info.status)

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
        found = self._records(RunQuery(experiment, tags or {}, order_by, descending, limit, metrics))
        return run_frame(found, metrics)

    def delete_run(self, run_id: str) -> None:
        """Delete a run, which MLflow can restore: see `Tracker.delete_run`."""
        with self._doing(f"deleting the run {run_id}"):
            self._client.delete_run(run_id)

    def deleted_runs(self) -> pd.DataFrame:
        """Return a row for each deleted run of any experiment, unless a registered model came from it."""
        found = self._records(RunQuery(deleted=True))
        with self._doing("looking up the registered models"):
            registered = registered_runs(self._client) if found else set()
        return run_frame([run for run in found if run.run_id not in registered])

    def missing_runs(self, run_ids: Collection[str]) -> set[str]:
        """Return those of `run_ids` that were deleted or no longer exist: see `Tracker.missing_runs`."""
        if not self._tracking_uri.startswith("http"):
            return missing_in_database(self._tracking_uri, run_ids)
        wanted = known_ids(run_ids)
        for part in in_parts(sorted(wanted)):
            chosen = f"attributes.run_id IN ({', '.join(map(repr, part))})"
            wanted -= {run.info.run_id for run in self._search(None, {}, _NEWEST, chosen=chosen)}
        return wanted | self._deleted_pending(set(run_ids) - known_ids(run_ids))

    def _deleted_pending(self, run_ids: Collection[str]) -> set[str]:
        """Return those of these pending ids whose runs were in the store, and are deleted."""
        if not run_ids:
            return set()
        deleted = self._search(None, {}, _NEWEST, view=ViewType.DELETED_ONLY)
        return pending_ids(run.data.tags for run in deleted).intersection(run_ids)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return all values of `metric` by step, in order of the steps; empty if it was never logged."""
        with self._doing(f"reading {metric} of run {run_id}"):
            points = self._client.get_metric_history(run_id, metric)
        points = sorted(points, key=lambda point: (point.step, point.timestamp))
        return {point.step: true_value(point.value) for point in points}

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Return all values of `metrics` of many runs, a row for each: see `Tracker.curves`."""
        known = known_ids(run_ids)
        ids = [run_id for run_id in dict.fromkeys(run_ids) if run_id in known]
        with self._doing(f"reading the curves of {counted(len(ids), 'run')}"):
            if self._tracking_uri.startswith("http"):
                points = points_on_server(self._tracking_uri, self._client, ids, metrics)
            else:
                points = points_in_database(self._tracking_uri, ids, metrics)
        return curve_frame(points, ids, metrics)

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`, under its own name; return the copy, None if there is none."""
        parent = str(PurePosixPath(artifact_path(path)).parent)
        with self._doing(f"fetching {path} of run {run_id}"):
            beside = self._client.list_artifacts(run_id, None if parent == "." else parent)
            if path not in {info.path for info in beside}:
                return None
            folder.mkdir(parents=True, exist_ok=True)
            return Path(self._client.download_artifacts(run_id, path, str(folder)))

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of each artifact of a run by its path: see `Tracker.files`."""
        with self._doing(f"listing the artifacts of run {run_id}"):
            return files(self._client, run_id, artifact_path(folder) if folder else None)

    def delete_files(self, run_id: str, paths: Sequence[str] | None = None) -> None:
        """Delete artifacts of a run: see `Tracker.delete_files`."""
        strange = [place.uri for place in self.places(run_id) if not place.own]
        if strange:
            raise TrackingError(
                f"Nothing of run {run_id} was deleted: {strange[0]} is not a folder of {self.uri}, "
                "so it may belong to another store"
            )
        with self._doing(f"deleting artifacts of run {run_id}"):
            delete_files(self._client, run_id, None if paths is None else list(map(artifact_path, paths)))

    def save_model(
        self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None = None
    ) -> None:
        """Write `model` to the new folder `folder`, as an MLflow model: see `Tracker.save_model`."""
        tracking.save_model(model, example, folder, intake)

    def flush(self, timeout: float = 10.0, patience: float = math.inf) -> Left:
        """Return that nothing is left: every write was acknowledged before it returned."""
        return Left()

    def _doing(self, action: str) -> Any:
        return translated(self._tracking_uri, action)

    def _lookup(self, name: str) -> mlflow.entities.Experiment | None:
        with self._doing(f"looking up the experiment '{name}'"):
            return self._client.get_experiment_by_name(name)

    def _location(self, name: str) -> str | None:
        base = self._artifact_location
        if base is None:
            return None
        folder = shortened(re.sub(r"[^\w.-]+", "_", name).strip(".") or "_")
        return f"{base.rstrip('/')}/{folder}" if "://" in base else (Path(base).resolve() / folder).as_uri()

    def _records(self, query: RunQuery) -> list[RunRecord]:
        """Return what is known of runs: from the database's tables or, of a server and others, by MLflow's search."""
        if self._tables is not None:
            return self._tables.records(query)
        direction = "DESC" if query.descending else "ASC"
        order = f"metrics.`{query.order_by}` {direction}" if query.order_by else _NEWEST
        view = ViewType.DELETED_ONLY if query.deleted else ViewType.ACTIVE_ONLY
        found = self._search(query.experiment, query.tags, order, query.limit, view)
        return [_record(run) for run in found]

    @cached_property
    def _tables(self) -> RunTables | None:
        _ = self._client  # which creates the database
        return RunTables.of(self._tracking_uri)

    def _search(
        self,
        experiment: str | None,
        tags: Mapping[str, str],
        order: str,
        limit: int | None = None,
        view: int = ViewType.ACTIVE_ONLY,
        chosen: str = "",
    ) -> list[mlflow.entities.Run]:
        """Return the runs with `tags`, or those that MLflow's filter `chosen` selects, reading page after page."""
        found: list[mlflow.entities.Run] = []
        token: str | None = None
        with self._doing("searching runs"):
            experiments = self._experiments(view) if experiment is None else [experiment]
            while limit is None or len(found) < limit:
                size = _PAGE if limit is None else min(_PAGE, limit - len(found))
                page = self._client.search_runs(
                    experiments, chosen or _filter(tags), view, size, [order], token
                )
                found += [run for run in page if tags.items() <= run.data.tags.items()]
                token = page.token
                if not token:
                    break
        return found

    def _experiments(self, view: int) -> list[str]:
        """Return the ids of the experiments that may have runs of this `view`: deleted runs may be in any."""
        kinds = view if view == ViewType.ACTIVE_ONLY else ViewType.ALL
        found: list[str] = []
        token: str | None = None
        while True:
            page = self._client.search_experiments(kinds, max_results=_PAGE, page_token=token)
            found += [str(experiment.experiment_id) for experiment in page]
            token = page.token
            if not token:
                return found


def _source_tags() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "lab", "mlflow.source.type": "LOCAL"}


def _filter(tags: Mapping[str, str]) -> str:
    """Return MLflow's filter for `tags`, except for values that its syntax cannot quote."""
    quoted = {
        name: f"'{value}'" if "'" not in value else f'"{value}"'
        for name, value in tags.items()
        if not ("'" in value and '"' in value)
    }
    return " and ".join(f"tags.`{name}` = {value}" for name, value in quoted.items())


def _record(run: mlflow.entities.Run) -> RunRecord:
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=RunStatus(run.info.status),
        start_time=run.info.start_time,
        end_time=run.info.end_time,
        params=run.data.params,
        metrics={name: true_value(value) for name, value in run.data.metrics.items()},
        tags=run.data.tags,
    )
