"""Reads the runs in a database of MLflow's without importing MLflow, which takes a second."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lab import tracking
from lab.errors import TrackingError
from lab.tracking.base import RunQuery, artifact_path, public_uri
from lab.tracking.rebase import local_path

if TYPE_CHECKING:
    import pandas as pd

    from lab.tracking.run_tables import RunTables

__all__ = ["DatabaseReader"]


class DatabaseReader:
    """A `Reader` of the `tables` at `uri`; see `open_reader`."""

    def __init__(self, uri: str, tables: RunTables) -> None:
        self._address = uri
        self._tables = tables

    @property
    def uri(self) -> str:
        """The address of the store for display, without a password."""
        return public_uri(self._address)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment called `name`, or None if there is none."""
        return self._tables.experiment(name)

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
        query = RunQuery(experiment, tags or {}, order_by, descending, limit, metrics)
        found = self._tables.records(query)
        return tracking.run_frame(found, metrics)

    def download(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Copy the file `path` of a run into `folder`; return the copy, None if there is none."""
        artifacts = self._tables.artifacts(run_id)
        place = None if artifacts is None else local_path(artifacts)
        if place is None:  # it is kept elsewhere, or MLflow says what is wrong
            return tracking.MlflowTracker(self._address).download(run_id, path, folder)
        file = place / artifact_path(path)
        if not file.exists():
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copy(file, folder))
        except OSError as error:
            raise TrackingError(f"Fetching {path} of run {run_id} failed at {self.uri}: {error}.") from None
