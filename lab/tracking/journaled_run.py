"""One run that is written to a journal on local disk; `JournaledTracker` makes them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import ResourceError, TrackingError
from lab.hold import Hold
from lab.tracking.base import Point, RunStatus, artifact_path
from lab.tracking.courier import Courier

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from lab.tracking.journaled import JournaledTracker

__all__ = ["JournaledRun", "Monitor", "now"]

_MODEL = "model"


class Monitor(Protocol):
    """What logs the machine's load."""

    def stop(self) -> None:
        """Log no more."""


class JournaledRun:
    """A `Run` whose writes return as soon as they are on local disk; made by `JournaledTracker`."""

    def __init__(
        self,
        tracker: JournaledTracker,
        courier: Courier,
        run_id: str,
        *,
        attempt: str = "",
        hold: Hold | None = None,
    ) -> None:
        self._tracker = tracker
        self._courier = courier
        self._run_id = run_id
        self._attempt = attempt
        self._hold = hold or Hold()
        self._monitor: Monitor | None = None

    @property
    def run_id(self) -> str:
        """The id to re-open it with; `pending-…` where the store was away when it was opened."""
        return self._run_id

    @property
    def url(self) -> str | None:
        """The page of this run in the MLflow UI, or None where no server shows it (yet)."""
        run = self._courier.delivery.run
        return None if run is None else run.url

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log `params`; one that the run already has keeps its value."""
        if params:
            self._add("params", {"params": dict(params)})

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, *, timestamp: int | None = None
    ) -> None:
        """Log the values of one step."""
        self.log_history({step: metrics}, timestamp=timestamp)

    def log_history(
        self, history: Mapping[int, Mapping[str, float]], *, timestamp: int | None = None
    ) -> None:
        """Log the values of many steps, keyed by step."""
        when = now() if timestamp is None else timestamp
        self.log_points(
            [
                Point(name, float(value), step, when)
                for step, metrics in history.items()
                for name, value in metrics.items()
            ]
        )

    def log_points(self, points: Sequence[Point]) -> None:
        """Log values that were measured at different times."""
        if points:
            self._add("metrics", {"points": points})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set `tags`, replacing older values."""
        if tags:
            self._add("tags", {"tags": dict(tags)})

    def remove_tags(self, names: Sequence[str]) -> None:
        """Remove the tags called `names` where the run has them."""
        self._add("untag", {"names": list(names)})

    def log_text(self, text: str, path: str) -> None:
        """Store `text` (UTF-8) as the artifact `path`, replacing an older one."""
        self._store(path, lambda file: file.write_text(text, encoding="utf-8", newline=""))

    def log_file(self, file: Path, folder: str = "", *, table: bool = False) -> None:
        """Store a local file under its own name in the artifact folder `folder`, replacing an older one."""
        path = f"{artifact_path(folder)}/{file.name}" if folder else file.name
        if not file.is_file():
            raise TrackingError(
                f"Storing {file.name} (run {self._run_id}) failed in the journal: No such file: {file}"
            )
        self._store(path, lambda copy: shutil.copyfile(file, copy), table=table)

    def delete_file(self, path: str) -> None:
        """Delete the artifact `path`; nothing happens where there is none."""
        self._add("delete", {"path": artifact_path(path)}, path=path)

    def log_image(self, image: bytes, path: str) -> None:
        """Store `image`, the bytes of its file, as the artifact `path` (`curves.png`), replacing an older one."""
        self._store(path, lambda file: file.write_bytes(image))

    def log_table(self, frame: pd.DataFrame, path: str) -> None:
        """Store `frame` as the table `path` (`.json`), replacing an older one."""
        text = str(frame.to_json(orient="split", index=False, date_format="iso"))
        self._store(path, lambda file: file.write_text(text, encoding="utf-8"), table=True)

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
        """Record what the run was trained on."""
        values = {"name": name, "digest": digest, "source": source, "context": context}
        lists = {"shape": list(shape), "classes": list(classes), "images": dict(images)}
        self._add("dataset", {**values, **lists})

    def log_model(self, model: nn.Module, example: Tensor) -> str:
        """Save `model` as the MLflow model `model`; return the address it will have."""
        return self._keep_model(lambda folder: self._tracker.save_model(model, example, folder))

    def log_saved_model(self, folder: Path) -> str:
        """Log the model that `JournaledTracker.save_model` wrote to `folder`, as `log_model` does."""
        return self._keep_model(lambda copy: shutil.copytree(folder, copy))

    def log_origin(self, run_id: str) -> None:
        """Record that this run began with the model of the run `run_id`."""
        self._add("origin", {"run_id": run_id})

    def end(self, status: RunStatus, *, timestamp: int | None = None) -> None:
        """Close the run with `status`."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.stop()
        when = now() if timestamp is None else timestamp
        self._add("end", {"status": str(status), "timestamp": when})

    def leave(self) -> None:
        """Write nothing more; what waits in the journal is dropped, but for points that nobody has."""
        self._hold.lose()
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.stop()
        self._tracker.leave(self._courier, self._attempt)

    def watch(self, start: Callable[[JournaledRun], Monitor]) -> None:
        """Have the machine's load logged until the run ends."""
        self._monitor = start(self)

    def _keep_model(self, make: Callable[[Path], object]) -> str:
        self._add("model", {}, path=f"{_MODEL}/", name=_MODEL, make=make)
        return f"runs:/{self._run_id}/{_MODEL}"

    def _store(self, path: str, write: Callable[[Path], object], *, table: bool = False) -> None:
        place = artifact_path(path)
        name = PurePosixPath(place).name
        self._add("file", {"path": place, "table": table}, path=place, name=name, make=write)

    def _add(self, kind: str, payload: Mapping[str, Any], **file: Any) -> None:
        """Keep an operation.

        Raises:
            Lost: the trial is somebody else's.
            ResourceError: the journal cannot be written.
            TrackingError: the store has refused an earlier operation for good; this one is kept all the same.
        """
        self._hold.confirm()
        try:
            self._courier = self._tracker.add(self._courier, self._run_id, kind, payload, **file)
        except ResourceError:
            self._put_directly(kind, payload)
            raise
        if self._courier.refusal is not None:
            raise self._courier.refusal

    def _put_directly(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Let the store know at least how a trial ends that its journal has no room for."""
        run = self._courier.delivery.run
        with suppress(TrackingError):
            if run is not None and kind == "tags":
                run.set_tags(payload["tags"])
            elif run is not None and kind == "end":
                run.end(RunStatus(payload["status"]), timestamp=payload["timestamp"])


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)
