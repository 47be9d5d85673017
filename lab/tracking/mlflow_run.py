"""One MLflow run, written through `MlflowClient`: no active-run stack, no global state."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml
from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from lab import tracking  # asked for `save_model` when that is needed: it imports torch
from lab.errors import TrackingError
from lab.hold import Hold, Lost
from lab.tracking.base import FROM_THE_START, DeniedError, Metric, RunStatus, public_uri
from lab.tracking.database import true_value
from lab.tracking.environment import sent_once
from lab.tracking.known import Known
from lab.tracking.markup import literal
from lab.tracking.run import Run
from lab.tracking.system_metrics import PREFIX, LoadMonitor, next_sample
from lab.tracking.tags import Tag
from lab.tracking.translate import translated
from lab.tracking.views import run_page
from lab.tracking.writes import Dataset, Model, Write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data import Intake

__all__ = ["MlflowRun"]

_TABLES_TAG = "mlflow.loggedArtifacts"  # tells the UI which artifacts are tables
_MODEL = Model.name
# libyaml's, ten times as fast as PyYAML's own, where it is there
_LOADER, _DUMPER = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))
_ORIGIN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", Tag.COMMIT)


class MlflowRun(Run):
    """A `Run` in an MLflow store; made by `MlflowTracker.open_run`."""

    def __init__(
        self,
        client: MlflowClient,
        run: entities.Run,
        *,
        reopened: bool,
        system_metrics: bool,
        hold: Hold | None = None,
    ) -> None:
        self._client = client
        self._hold = hold or Hold()
        self._uri: str = client.tracking_uri
        self._experiment: str = run.info.experiment_id
        self._run_id: str = run.info.run_id
        self._params: dict[str, str] = dict(run.data.params)
        self._tables: list[dict[str, str]] = json.loads(run.data.tags.get(_TABLES_TAG, "[]"))
        self._origin = {name: run.data.tags[name] for name in _ORIGIN if name in run.data.tags}
        self._artifacts: str = run.info.artifact_uri
        self._may_have_models = reopened
        self._began: int = run.info.start_time
        self._facts: dict[str, Metric] = {}  # the metrics without steps, which describe the model
        self._dataset: entities.Dataset | None = None
        data: Any = run.data  # the steps are not public
        latest = {
            each.key: Metric(each.key, true_value(each.value), each.step, each.timestamp)
            for each in (data._metric_objs if reopened else [])
        }
        self._known = Known(latest, self._history)
        steps = {name: metric.step for name, metric in latest.items()}
        self._monitor = LoadMonitor(self.log_metrics, next_sample(steps)) if system_metrics else None

    @property
    def run_id(self) -> str:
        """The id to re-open it with."""
        return self._run_id

    @property
    def url(self) -> str | None:
        """The page of this run in the MLflow UI, or None if no server shows it."""
        if not self._uri.startswith(("http://", "https://")):
            return None
        return public_uri(self._uri).rstrip("/") + run_page(self._experiment, self._run_id)

    def write(self, write: Write) -> None:
        """Carry out one write."""
        write.put(self)

    def leave(self) -> None:
        """Write nothing more."""
        self._hold.lose()
        if self._monitor is not None:
            self._monitor.stop()

    def log_batch(
        self,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        only_missing: bool = False,
    ) -> None:
        """Log metrics and params and set tags: one request for each 1,000 metrics. See `RunStore.log_batch`."""
        metrics = [self._timed(metric) for metric in metrics]
        params = {name: value for name, value in (params or {}).items() if name not in self._params}
        action = "logging metrics" if metrics else "logging params" if params else "setting tags"
        with self._doing(action):
            self._client.log_batch(
                self._run_id,
                [
                    entities.Metric(metric.name, metric.value, metric.timestamp, metric.step)
                    for metric in metrics
                    if not self._known.has(metric, only_missing=only_missing)
                ],
                [entities.Param(name, value) for name, value in params.items()],
                [entities.RunTag(name, value) for name, value in (tags or {}).items()],
            )
        self._params.update(params)
        self._keep_facts(metrics)

    def delete_tags(self, names: Sequence[str]) -> None:
        """Delete the tags that the run has of `names`."""
        with self._doing("removing tags"):
            for name in set(names) & set(self._client.get_run(self._run_id).data.tags):
                self._client.delete_tag(self._run_id, name)

    def log_artifact(self, path: str, source: Path | bytes, *, table: bool = False) -> None:
        """Store a file, or the contents of one, as the artifact `path`."""
        place = PurePosixPath(path)
        folder = None if str(place.parent) == "." else str(place.parent)
        with self._translated(f"storing {path}"), _named(place.name, source) as file:
            self._hold.confirm(anew=True)
            self._files.log_artifact(str(file), folder)
        if table:
            self._show_table(path)

    def delete_artifact(self, path: str) -> None:
        """Delete the artifact `path` if there is one."""
        with self._doing(f"deleting {path}"):
            self._files.delete_artifacts(path)

    def log_inputs(self, dataset: Dataset) -> None:
        """Record a dataset as an input of the run, as the UI's dataset column shows it."""
        found = _dataset(dataset)
        inputs = [entities.DatasetInput(found, [entities.InputTag("mlflow.data.context", dataset.context)])]
        with self._doing("logging the dataset"):
            try:
                self._client.log_inputs(self._run_id, inputs)
            except MlflowException as error:
                if "unique" not in str(error).lower():
                    raise
                # another worker has recorded the same dataset since MLflow looked; now MLflow finds it
                self._client.log_inputs(self._run_id, inputs)
        self._dataset = found

    def log_outputs(self, folder: Path) -> None:
        """Log the model saved in `folder` as the run's model, in place of an older one.

        It is in the format pt2, a graph without Python's code. The metrics without steps are linked to it.
        """
        described = _description(folder)
        with self._doing("logging the model"):
            is_first, self._may_have_models = not self._may_have_models, True
            with sent_once():
                logged = self._client.create_logged_model(
                    self._experiment, _MODEL, self._run_id, tags=self._origin, params=self._params
                )
            try:
                place, identity = logged.artifact_location, logged.model_id
                own = {"artifact_path": place, "run_id": self._run_id}
                _describe(folder, {**described, **own, "model_id": identity, "model_uuid": identity})
                self._repository(place).log_artifacts(str(folder))
                self._hold.confirm(anew=True)  # it took a while
            except Lost:
                with suppress(Exception):  # the run's new worker may have done so already
                    self._client.delete_logged_model(logged.model_id)
                raise
            except BaseException:
                with suppress(Exception):  # the first error is the one to report
                    self._client.finalize_logged_model(logged.model_id, "FAILED")
                raise
            self._client.finalize_logged_model(logged.model_id, "READY")
            self._client.log_outputs(self._run_id, [entities.LoggedModelOutput(logged.model_id, step=0)])
            self._client.log_batch(self._run_id, metrics=self._linked(logged.model_id))
            self._hold.confirm(anew=True)
            if is_first:
                return
            # those of earlier attempts, even if the server never acknowledged their end
            mine = f"source_run_id = '{self._run_id}'"
            for other in self._client.search_logged_models([self._experiment], mine):
                if other.model_id != logged.model_id and other.name == _MODEL:
                    with suppress(DeniedError), self._doing("deleting an older model"):
                        self._client.delete_logged_model(other.model_id)

    def log_input_model(self, run_id: str) -> None:
        """Record the model of another run as an input of this one, and say so in the description, with a link."""
        with self._doing(f"linking run {run_id}"):
            origin = self._client.get_run(run_id)
            models = [output.model_id for output in (origin.outputs.model_outputs if origin.outputs else [])]
            if models:
                self._client.log_inputs(self._run_id, models=[entities.LoggedModelInput(models[-1])])
        page = run_page(origin.info.experiment_id, run_id).removeprefix("/")
        study = origin.data.tags.get(Tag.STUDY)
        name = f"{study}: {origin.info.run_name}" if study else origin.info.run_name
        note = f"Began with the weights of [{literal(name)}]({page})."
        with self._doing("reading its note"):
            noted = self._client.get_run(self._run_id).data.tags.get(Tag.NOTE)
        self.log_batch(tags={Tag.INIT_FROM_RUN: run_id, Tag.NOTE: noted or note})

    def set_terminated(self, status: RunStatus, timestamp: int | None) -> None:
        """End the run."""
        if self._monitor is not None:
            self._monitor.stop()
        with self._doing(f"ending the run as {status}"):
            self._client.set_terminated(self._run_id, str(status), timestamp)

    def _save_model(self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None) -> None:
        with self._doing("saving the model"):
            tracking.save_model(model, example, folder, intake)

    @cached_property
    def _files(self) -> Any:
        return self._repository(self._artifacts)

    def _repository(self, place: str) -> Any:
        """Return what stores files at `place`; MLflow's client would ask the store for every run where that is."""
        return get_artifact_repository(place, tracking_uri=self._uri)

    def _timed(self, metric: Metric) -> Metric:
        return metric._replace(timestamp=self._began) if metric.timestamp == FROM_THE_START else metric

    def _keep_facts(self, metrics: Sequence[Metric]) -> None:
        """Remember the metrics without steps, with the timestamps that they have in the run."""
        for metric in metrics:
            if metric.step == 0 and not metric.name.startswith(PREFIX):
                known = self._known.has(metric)
                fact = self._known.fact(metric.name) if known else metric
                if fact is not None:
                    self._facts[metric.name] = fact

    def _history(self, name: str) -> dict[int, float]:
        found = self._client.get_metric_history(self._run_id, name)
        return {metric.step: true_value(metric.value) for metric in found}

    def _show_table(self, path: str) -> None:
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            self.log_batch(tags={_TABLES_TAG: json.dumps([*self._tables, entry])})
            self._tables.append(entry)

    def _linked(self, model_id: str) -> list[entities.Metric]:
        """Return the facts once more, as those of a model; the run does not count them twice.

        Without NaN and infinities, which MLflow keeps for runs only: a model would show them as numbers.
        """
        name, digest = (self._dataset.name, self._dataset.digest) if self._dataset else (None, None)
        return [
            entities.Metric(fact.name, fact.value, fact.timestamp, 0, model_id, name, digest, self._run_id)
            for fact in self._facts.values()
            if math.isfinite(fact.value)
        ]

    def _doing(self, action: str) -> Any:
        self._hold.confirm(anew=True)  # right before the request
        return self._translated(action)

    def _translated(self, action: str) -> Any:
        return translated(self._uri, f"{action} (run {self._run_id})")


@contextmanager
def _named(name: str, source: Path | bytes) -> Iterator[Path]:
    """Yield a file called `name` with the contents of `source`."""
    if isinstance(source, Path) and source.name == name:
        yield source
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, name)
        if isinstance(source, Path):
            shutil.copyfile(source, file)
        else:
            file.write_bytes(source)
        yield file


def _dataset(dataset: Dataset) -> entities.Dataset:
    """Return MLflow's own description of a dataset."""
    remote = "://" in dataset.source
    features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *dataset.shape]}}]
    profile = {
        "num_rows": sum(dataset.images.values()),
        "images": dict(dataset.images),
        "classes": list(dataset.classes),
    }
    return entities.Dataset(
        name=dataset.name,
        digest=dataset.digest,
        source_type="http" if remote else "local",
        source=json.dumps({"url" if remote else "uri": dataset.source}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}),
        profile=json.dumps(profile),
    )


def _description(folder: Path) -> dict[str, Any]:
    try:
        return dict(yaml.load((folder / "MLmodel").read_text(encoding="utf-8"), _LOADER))
    except Exception as error:  # noqa: BLE001  # whatever YAML says, or an empty file
        raise TrackingError(
            f"The model in {folder} is damaged: its MLmodel cannot be read ({error}). Its weights are in the run's"
            " checkpoints"
        ) from None


def _describe(folder: Path, described: Mapping[str, Any]) -> None:
    # replaced as a whole: the folder may be in a journal, which is delivered later if this process is killed here
    partial = folder.with_name(f"{folder.name}.partial")
    partial.write_text(yaml.dump(dict(described), Dumper=_DUMPER), encoding="utf-8")
    partial.replace(folder / "MLmodel")
