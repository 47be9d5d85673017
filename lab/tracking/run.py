"""`Run`: what a trial writes to. The convenient methods are here, once; each makes a `Write`."""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import TrackingError
from lab.tracking.base import FROM_THE_START, Metric, RunStatus, artifact_path
from lab.tracking.writes import (
    Dataset,
    Delete,
    End,
    File,
    Metrics,
    Model,
    Origin,
    Params,
    RemoveTags,
    Tags,
    Write,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from lab.data import Intake

__all__ = ["Run", "now"]


class Run(ABC):
    """One run that is open for writing.

    Every write says *what is so* (this metric at this step, this artifact at this path), never *add one more*, so it
    can be repeated.
    """

    @property
    @abstractmethod
    def run_id(self) -> str:
        """The id to re-open it with."""

    @property
    @abstractmethod
    def url(self) -> str | None:
        """The page of this run in the MLflow UI, or None if no server shows it."""

    @abstractmethod
    def write(self, write: Write) -> None:
        """Carry out one write.

        Raises:
            Lost: another worker has the trial.
            TrackingError: the store failed or refused.
        """

    @abstractmethod
    def leave(self) -> None:
        """Write nothing more: the trial is lost, so the run is another worker's and stays as it is."""

    @abstractmethod
    def _save_model(self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None) -> None:
        """Write `model` to the new folder `folder`, as `Tracker.save_model` does."""

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log `params`; one that the run already has keeps its value.

        `mlflow run` logs them first, in the user's spelling (`1e-3`), and MLflow refuses to change one.
        """
        if params:
            self.write(Params(dict(params)))

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, *, timestamp: int | None = None
    ) -> None:
        """Log the values of one step. NaN and infinities are values too.

        Metrics that are only logged at step 0 are facts about the trial. What a re-opened run keeps is said in
        `lab.tracking.known`.

        Args:
            metrics: value by name.
            step: of the values.
            timestamp: when they were measured, in milliseconds since 1970; now if None. The same values
                logged again with the same timestamp are not doubled.
        """
        self.log_history({step: metrics}, timestamp=timestamp)

    def log_facts(self, metrics: Mapping[str, float]) -> None:
        """Log values that every attempt at a trial finds the same, such as its number of parameters.

        They are dated to the run's start. So even if an attempt that slept in the middle of logging them wakes up once
        another has logged them too, the run has them once.
        """
        self.log_metrics(metrics, timestamp=FROM_THE_START)

    def log_history(
        self, history: Mapping[int, Mapping[str, float]], *, timestamp: int | None = None
    ) -> None:
        """Log the values of many steps, keyed by step, in as few requests as possible."""
        when = now() if timestamp is None else timestamp
        found = [
            Metric(name, float(value), step, when)
            for step, metrics in history.items()
            for name, value in metrics.items()
        ]
        if found:
            self.write(Metrics(tuple(found)))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set `tags`, replacing older values."""
        if tags:
            self.write(Tags(dict(tags)))

    def remove_tags(self, names: Sequence[str]) -> None:
        """Remove the tags called `names` where the run has them."""
        self.write(RemoveTags(tuple(names)))

    def log_text(self, text: str, path: str) -> None:
        """Store `text` (UTF-8) as the artifact `path`, replacing an older one."""
        self.write(File(artifact_path(path), text.encode()))

    def log_file(self, file: Path, folder: str = "", *, passing: bool = False) -> None:
        """Store a local file under its own name in the artifact folder `folder`, replacing an older one.

        Args:
            file: the local file.
            folder: of the artifacts; the topmost one by default.
            passing: whether it is only of use until the run ends: who writes it deletes it then.
        """
        if not file.is_file():
            raise TrackingError(
                f"Storing {file.name} (run {self.run_id}) failed on this machine: No such file: {file}"
            )
        path = f"{artifact_path(folder)}/{file.name}" if folder else file.name
        self.write(File(path, file, passing=passing))

    def delete_file(self, path: str) -> None:
        """Delete the artifact `path`; nothing happens if there is none."""
        self.write(Delete(artifact_path(path)))

    def log_image(self, image: bytes, path: str) -> None:
        """Store `image`, the bytes of its file, as the artifact `path` (`curves.png`), replacing an older one."""
        self.write(File(artifact_path(path), image))

    def log_table(self, frame: pd.DataFrame, path: str) -> None:
        """Store `frame` as the table `path` (`leaderboard.json`), replacing an older one.

        The MLflow UI shows and compares such tables. (MLflow's own method appends to one.)
        """
        text = str(frame.to_json(orient="split", index=False, date_format="iso"))
        self.write(File(artifact_path(path), text.encode(), table=True))

    def log_parquet(self, frame: pd.DataFrame, path: str) -> None:
        """Store `frame` as the Parquet file `path`, replacing an older one; the MLflow UI offers it for download.

        Floats take less space and time with their bytes split into streams, all other columns with a dictionary.
        """
        content = io.BytesIO()
        floats = [name for name in map(str, frame) if frame[name].dtype.kind == "f"]
        frame.to_parquet(
            content,
            engine="pyarrow",
            index=False,
            compression="zstd",
            use_dictionary=[name for name in map(str, frame) if name not in floats],
            use_byte_stream_split=floats,
        )
        self.write(File(artifact_path(path), content.getvalue()))

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
        """Record what the run was trained on.

        Args:
            name: the dataset's registered name.
            digest: hash of its contents, at most 36 characters.
            source: where it came from: a path or an address.
            shape: of one image, [C, H, W].
            classes: their names, in the order of the labels.
            images: number of images in each split, e.g. {"train": 60000, "test": 10000}.
            context: what it was used for.
        """
        self.write(Dataset(name, digest, source, tuple(shape), tuple(classes), dict(images), context))

    def log_model(self, model: nn.Module, example: Tensor, intake: Intake | None = None) -> str:
        """Log `model` as the MLflow model `model`; return the address to load it from.

        The facts about the trial are linked to it. An older model of the run is deleted.

        Args:
            model: takes float32 [B, C, H, W] for any B and returns [B, classes]; it is left as it is.
            example: one batch of what it takes, [B, C, H, W]; only its shape is used.
            intake: how pictures become its input. With it, the model can be served: see `lab.tracking.pyfunc`.
        """
        return self._log_model(Model(lambda folder: self._save_model(model, example, folder, intake)))

    def log_saved_model(self, folder: Path) -> str:
        """Log the model that `Tracker.save_model` wrote to `folder`, as `log_model` does."""
        return self._log_model(Model(folder))

    def log_origin(self, run_id: str) -> None:
        """Record that this run began with the model of the run `run_id`: as its input, and in words with a link."""
        self.write(Origin(run_id))

    def end(self, status: RunStatus, *, timestamp: int | None = None) -> None:
        """Close the run with `status`; it ended at `timestamp` (milliseconds since 1970), now if None."""
        self.write(End(status, now() if timestamp is None else timestamp))

    def _log_model(self, model: Model) -> str:
        self.write(model)
        return f"runs:/{self.run_id}/{model.name}"


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)
