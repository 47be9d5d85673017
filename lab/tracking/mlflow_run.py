"""One MLflow run, written through `MlflowClient`: no active-run stack, no global state."""

from __future__ import annotations

import io
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

from lab.hold import Hold, Lost
from lab.tracking.base import DeniedError, Point, RunStatus, artifact_path, public_uri
from lab.tracking.export import example_batch, exporting, portable
from lab.tracking.markup import literal
from lab.tracking.system_metrics import PREFIX, LoadMonitor, next_sample
from lab.tracking.tags import Tag
from lab.tracking.translate import translated
from lab.tracking.views import run_page

if TYPE_CHECKING:
    import mlflow.entities
    import pandas as pd

__all__ = ["MlflowRun", "save_model"]

_TABLES_TAG = "mlflow.loggedArtifacts"  # by it the UI knows which artifacts are tables
_MODEL = "model"
_ORIGIN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", Tag.COMMIT)
_VERSIONS = {"torch": str(torch.__version__), "numpy": np.__version__}


class MlflowRun:
    """A `Run` in an MLflow store; made by `MlflowTracker.open_run`."""

    def __init__(
        self,
        client: MlflowClient,
        run: mlflow.entities.Run,
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
        self._known: dict[str, float] = dict(run.data.metrics)  # when it was opened
        self._facts: dict[str, Metric] = {}  # the metrics without steps, which describe the model
        self._dataset: Dataset | None = None
        last: Any = run.data  # its steps have no public name
        steps = {metric.key: metric.step for metric in last._metric_objs} if reopened else {}
        self._monitor = LoadMonitor(self.log_metrics, next_sample(steps)) if system_metrics else None

    @property
    def run_id(self) -> str:
        """The id to re-open it with."""
        return self._run_id

    @property
    def url(self) -> str | None:
        """The page of this run in the MLflow UI, or None where no server shows it."""
        if not self._uri.startswith(("http://", "https://")):
            return None
        return public_uri(self._uri).rstrip("/") + run_page(self._experiment, self._run_id)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log `params`; one that the run already has keeps its value."""
        new = {name: value for name, value in params.items() if name not in self._params}
        with self._doing("logging params"):
            self._client.log_batch(self._run_id, params=[Param(name, value) for name, value in new.items()])
        self._params.update(new)

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, *, timestamp: int | None = None
    ) -> None:
        """Log the values of one step in one request (one for each 1,000)."""
        self.log_history({step: metrics}, timestamp=timestamp)

    def log_history(
        self, history: Mapping[int, Mapping[str, float]], *, timestamp: int | None = None
    ) -> None:
        """Log the values of many steps, keyed by step: one request for each 1,000 values."""
        when = int(time.time() * 1000) if timestamp is None else timestamp
        points = [
            Point(name, float(value), step, when)
            for step, metrics in history.items()
            for name, value in metrics.items()
        ]
        self.log_points(points)

    def log_points(self, points: Sequence[Point]) -> None:
        """Log values that were measured at different times: one request for each 1,000."""
        self._log([Metric(point.name, point.value, point.timestamp, point.step) for point in points])

    def _log(self, points: list[Metric]) -> None:
        known = {p.key for p in points if p.step == 0 and self._known.get(p.key) == p.value}
        with self._doing("logging metrics"):
            self._client.log_batch(self._run_id, metrics=[p for p in points if p.step or p.key not in known])
            # with their times, as the run would count one with another time as one more
            found = [p for name in known for p in self._client.get_metric_history(self._run_id, name)]
        facts = [p for p in points if p.step == 0 and p.key not in known and not p.key.startswith(PREFIX)]
        self._facts.update((p.key, p) for p in (*found, *facts))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set `tags`, replacing older values."""
        with self._doing("setting tags"):
            self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def remove_tags(self, names: Sequence[str]) -> None:
        """Remove the tags called `names` where the run has them."""
        with self._doing("removing tags"):
            for name in set(names) & set(self._client.get_run(self._run_id).data.tags):
                self._client.delete_tag(self._run_id, name)

    def log_text(self, text: str, path: str) -> None:
        """Store `text` (UTF-8) as the artifact `path`, replacing an older one."""
        self._store(path, lambda file: file.write_text(text, encoding="utf-8", newline=""))

    def log_file(self, file: Path, folder: str = "", *, table: bool = False) -> None:
        """Store a local file under its own name in the artifact folder `folder`, replacing an older one."""
        place = artifact_path(folder) if folder else None
        with self._doing(f"storing {file.name}"):
            self._client.log_artifact(self._run_id, str(file), place)
        if table:
            self._show_table(f"{folder}/{file.name}" if folder else file.name)

    def delete_file(self, path: str) -> None:
        """Delete the artifact `path`; nothing happens where there is none."""
        place = artifact_path(path)
        with self._doing(f"deleting {path}"):
            repository: Any = get_artifact_repository(self._artifacts, tracking_uri=self._uri)
            repository.delete_artifacts(place)

    def log_image(self, image: bytes, path: str) -> None:
        """Store `image`, the bytes of its file, as the artifact `path` (`curves.png`), replacing an older one."""
        self._store(path, lambda file: file.write_bytes(image))

    def log_table(self, frame: pd.DataFrame, path: str) -> None:
        """Store `frame` as the table `path` (`.json`), replacing an older one (MLflow's own appends)."""
        text = io.StringIO()
        frame.to_json(text, orient="split", index=False, date_format="iso")
        self.log_text(text.getvalue(), path)
        self._show_table(path)

    def _show_table(self, path: str) -> None:
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            self.set_tags({_TABLES_TAG: json.dumps([*self._tables, entry])})
            self._tables.append(entry)

    def log_dataset(
        self,
        name: str,
        *,
        digest: str,
        source: str,
        shape: Sequence[int],
        classes: Sequence[str],
        images: Mapping[str, int],
        context: str = "training",
    ) -> None:
        """Record what the run was trained on, as the UI's dataset column shows it."""
        remote = "://" in source
        features = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape]}}]
        profile = {"num_rows": sum(images.values()), "images": dict(images), "classes": list(classes)}
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="http" if remote else "local",
            source=json.dumps({"url" if remote else "uri": source}),
            schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}),
            profile=json.dumps(profile),
        )
        tags = [InputTag("mlflow.data.context", context)]
        with self._doing("logging the dataset"):
            try:
                self._client.log_inputs(self._run_id, [DatasetInput(dataset, tags)])
            except MlflowException as error:
                if "unique" not in str(error).lower():
                    raise
                # another worker recorded the same dataset since MLflow looked; now it finds it
                self._client.log_inputs(self._run_id, [DatasetInput(dataset, tags)])
        self._dataset = dataset

    def log_model(self, model: nn.Module, example: Tensor) -> str:
        """Log `model` as the MLflow model `model` (pt2: loading it runs no code); return `models:/…`.

        The metrics logged without a step are linked to it. An older one of a run that continues is deleted.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, _MODEL)
            with self._doing("saving the model"):
                save_model(model, example, folder)
            return self.log_saved_model(folder)

    def log_saved_model(self, folder: Path) -> str:
        """Log the model that `save_model` wrote to `folder`, as `log_model` does."""
        with self._doing("logging the model"):
            logged = self._client.create_logged_model(
                self._experiment, _MODEL, self._run_id, tags=self._origin, params=self._params
            )
            try:
                described = Model.load(str(folder))
                described.artifact_path, described.run_id = logged.artifact_location, self._run_id
                described.model_uuid = described.model_id = logged.model_id
                described.save(str(folder / "MLmodel"))
                self._client.log_model_artifacts(logged.model_id, str(folder))
                self._hold.confirm(anew=True)  # it took a while
            except Lost:
                with suppress(Exception):  # whoever has the run now may have done so already
                    self._client.delete_logged_model(logged.model_id)
                raise
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    self._client.finalize_logged_model(logged.model_id, "FAILED")
                raise
            self._client.finalize_logged_model(logged.model_id, "READY")
            self._client.log_outputs(self._run_id, [LoggedModelOutput(logged.model_id, step=0)])
            self._client.log_batch(self._run_id, metrics=self._linked(logged.model_id))
            self._hold.confirm(anew=True)
            # those of earlier attempts, also of one whose end the server never acknowledged
            mine = f"source_run_id = '{self._run_id}'"
            for other in self._client.search_logged_models([self._experiment], mine):
                if other.model_id != logged.model_id and other.name == _MODEL:
                    with suppress(DeniedError), self._doing("deleting an older model"):
                        self._client.delete_logged_model(other.model_id)
        return f"models:/{logged.model_id}"

    def log_origin(self, run_id: str) -> None:
        """Record that this run began with the model of the run `run_id`: as its input, and in words with a link."""
        with self._doing(f"linking run {run_id}"):
            origin = self._client.get_run(run_id)
            models = [output.model_id for output in (origin.outputs.model_outputs if origin.outputs else [])]
            if models:
                self._client.log_inputs(self._run_id, models=[LoggedModelInput(models[-1])])
        page = run_page(origin.info.experiment_id, run_id).removeprefix("/")
        study = origin.data.tags.get(Tag.STUDY)
        name = f"{study}: {origin.info.run_name}" if study else origin.info.run_name
        note = f"Began with the weights of [{literal(name)}]({page})."
        self.set_tags({Tag.INIT_FROM_RUN: run_id, Tag.NOTE: note})

    def end(self, status: RunStatus, *, timestamp: int | None = None) -> None:
        """Close the run with `status`."""
        if self._monitor is not None:
            self._monitor.stop()
        with self._doing(f"ending the run as {status}"):
            self._client.set_terminated(self._run_id, str(status), timestamp)

    def leave(self) -> None:
        """Write nothing more."""
        self._hold.lose()
        if self._monitor is not None:
            self._monitor.stop()

    def _linked(self, model_id: str) -> list[Metric]:
        """Return the facts again, as those of a model; the run does not count them twice.

        Without NaN and infinities, which MLflow keeps for runs only: a model would show them as numbers.
        """
        name, digest = (self._dataset.name, self._dataset.digest) if self._dataset else (None, None)
        return [
            Metric(fact.key, fact.value, fact.timestamp, 0, model_id, name, digest, run_id=self._run_id)
            for fact in self._facts.values()
            if math.isfinite(fact.value)
        ]

    def _doing(self, action: str) -> Any:
        self._hold.confirm(anew=True)  # right before the request
        return translated(self._uri, f"{action} (run {self._run_id})")

    def _store(self, path: str, write: Callable[[Path], object]) -> None:
        place = PurePosixPath(artifact_path(path))
        folder = str(place.parent)
        with self._doing(f"storing {path}"), tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, place.name)
            write(file)
            self._hold.confirm(anew=True)
            self._client.log_artifact(self._run_id, str(file), None if folder == "." else folder)


def save_model(model: nn.Module, example: Tensor, folder: Path) -> None:
    """Write `model` to `folder` as an MLflow model; its ids are those of no store yet."""
    twin, batch = portable(model), example_batch(example)
    with torch.no_grad():
        classes = twin(batch).shape[1:]
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, *batch.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, *classes))]),
    )
    with exporting():
        mlflow.pytorch.save_model(
            twin,
            str(folder),
            signature=signature,
            input_example=batch.numpy(),
            pip_requirements=_requirements(),
            serialization_format="pt2",
        )


def _requirements() -> list[str]:
    # given, because MLflow finds them out by loading the model in another process, which takes seconds;
    # without the `+cpu` of a build that PyPI does not have
    return [f"{name}=={version.partition('+')[0]}" for name, version in _VERSIONS.items()]
