"""Copies all runs of one MLflow database, with their artifacts, to the database and the artifacts of a server.

Runs and models keep their ids, experiments theirs if these are free. The server keeps and serves their artifacts from
then on.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from lab.errors import ResourceError, TrackingError
from lab.places import sqlite_address
from lab.tracking.environment import settle
from lab.tracking.rebase import local_path, shortened
from lab.tracking.tables import Row, TableCopier, count_rows

settle()  # before MLflow is imported

from mlflow.entities import LifecycleStage  # noqa: E402
from mlflow.store.db import utils  # noqa: E402
from mlflow.store.db.base_sql_model import Base  # noqa: E402
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion  # noqa: E402
from mlflow.store.tracking.dbmodels.models import (  # noqa: E402
    SqlDataset,
    SqlExperiment,
    SqlInput,
    SqlLoggedModel,
    SqlRun,
)

from lab.tracking.translate import translated  # noqa: E402

__all__ = ["CopiedRuns", "RunCopy"]

_utils = cast(Any, utils)  # not typed
# what a server works out for itself, or does at the moment
_LEFT_OUT = re.compile(r"experiments|jobs|job_locks|scheduler_leases|sql_\w+")
_TABLES = [table for table in Base.metadata.sorted_tables if not _LEFT_OUT.fullmatch(table.name)]
_EXPERIMENTS, _RUNS, _MODELS, _VERSIONS, _DATASETS, _INPUTS = (
    kind.__table__ for kind in (SqlExperiment, SqlRun, SqlLoggedModel, SqlModelVersion, SqlDataset, SqlInput)
)
_PLACES = (
    "artifact_location",
    "artifact_uri",
    "source",
    "storage_location",
)  # columns with addresses of artifacts
_SERVED = "mlflow-artifacts:/"
_NUMBER_ON = sa.text(
    "SELECT setval(pg_get_serial_sequence('experiments', 'experiment_id'), MAX(experiment_id)) FROM experiments"
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CopiedRuns:
    """How much was copied; `run_ids` are those of the runs."""

    experiments: int = 0
    run_ids: frozenset[str] = frozenset()
    files: int = 0


class _Folder(NamedTuple):
    """A folder of artifacts: its address before and after, and where it is on this machine, if it is there."""

    old: str
    new: str
    path: Path | None


class RunCopy:
    """Copies the runs of a SQLite `database`, which nobody else uses, to the database at `target`.

    The first is brought to MLflow's present version, so it should itself be a copy.

    Args:
        database: of the runs.
        target: SQLAlchemy's address of a server's database.
        artifacts: the folder on this machine that the server keeps artifacts in.

    Raises:
        TrackingError: one of the databases cannot be used.
    """

    def __init__(self, database: Path, target: str, artifacts: Path) -> None:
        self._address, self._artifacts = target, artifacts
        self._source = sa.create_engine(sqlite_address(database), poolclass=sa.NullPool)
        self._target = sa.create_engine(_with_driver(target), poolclass=sa.NullPool)
        with translated(sqlite_address(database), "upgrading the copy"):
            if _utils._get_schema_version(self._source) != _utils._get_latest_schema_revision():
                _utils._upgrade_db(self._source)
        with translated(target, "connecting"):
            _utils._verify_schema(self._target)

    def check(self) -> None:
        """Check that nothing on the server has the names of other things here.

        Raises:
            TrackingError: something has, or there is too little room for the artifacts.
        """
        with self._connected() as (source, target):
            clashes = [*_deleted_experiments(source, target), *_other_versions(source, target)]
            if clashes:
                raise TrackingError(f"{clashes[0]} Nothing was imported.")
            self._check_room([each for each in _folders(source, _new_runs(source, target)) if each.path])

    def copy(self, on_progress: Progress) -> CopiedRuns:
        """Copy the artifacts of the runs that the server lacks, then all that the database has of them, or nothing.

        Raises:
            TrackingError: the server's database failed.
            ResourceError: a file cannot be copied.
        """
        with self._connected() as (source, target):
            new = _new_runs(source, target)
            folders = _folders(source, new)
        files = self._copy_files(folders, on_progress)
        with self._connected() as (source, target), target.begin():
            experiments = self._copy_rows(
                source, target, {each.old: each.new for each in folders}, on_progress
            )
        return CopiedRuns(experiments, frozenset(new), files)

    @contextmanager
    def _connected(self) -> Iterator[tuple[sa.Connection, sa.Connection]]:
        trouble = translated(self._address, "importing runs")
        with trouble, self._source.connect() as source, self._target.connect() as target:
            yield source, target

    def _check_room(self, folders: list[_Folder]) -> None:
        needed = sum(
            file.stat().st_size
            for each in folders
            if each.path
            for file in each.path.rglob("*")
            if file.is_file()
        )
        self._artifacts.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._artifacts).free
        if needed > free:
            raise ResourceError(
                f"The artifacts of the runs take {needed / 1e9:.1f} GB, but {self._artifacts} has {free / 1e9:.1f} GB "
                "left. Free some space; nothing was imported"
            )

    def _copy_files(self, folders: list[_Folder], on_progress: Progress) -> int:
        """Copy what is in `folders`; files that were copied before, by an import that was broken off, stay."""
        copied = 0
        for done, each in enumerate(folders):
            on_progress("folders of artifacts", done, len(folders))
            if each.path is not None:
                copied += _copy_folder(each.path, self._artifacts / each.new.removeprefix(_SERVED))
        on_progress("folders of artifacts", len(folders), len(folders))
        return copied

    def _copy_rows(
        self, source: sa.Connection, target: sa.Connection, moved: Mapping[str, str], on_progress: Progress
    ) -> int:
        """Copy all rows; return how many experiments are new."""
        ids, added = _copy_experiments(source, target, moved)
        total, done = count_rows(source, _TABLES), 0

        def tell(rows: int) -> None:
            nonlocal done
            done += rows
            on_progress("rows of runs", done, total)

        copier = TableCopier(source, target, {"experiment_id": ids}, tell)
        datasets: dict[str, str] = {}
        change = partial(_changed, moved=moved, datasets=datasets)
        for table in sorted(
            _TABLES, key=lambda each: each is not _DATASETS
        ):  # no foreign key says that inputs refer to them
            copier.copy(table, change=change)
            if table is _DATASETS:
                datasets |= _same_datasets(source, target, ids)
        return added


def _with_driver(address: str) -> sa.URL:
    """Return an address with the PostgreSQL driver that lab brings, if it names none."""
    url = sa.make_url(address)
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _changed(row: Row, moved: Mapping[str, str], datasets: Mapping[str, str]) -> Row:
    """Return a row with the new addresses of artifacts, and the ids that the server has for the same datasets."""
    for column in _PLACES:
        if row.get(column):
            row[column] = _address(row[column], moved)
    if row.get("source_type") == "DATASET":
        row["source_id"] = datasets.get(row["source_id"], row["source_id"])
    return row


def _address(uri: str, moved: Mapping[str, str]) -> str:
    """Return where `uri` is now: it or a folder above it has moved, or not."""
    above, below = uri, ""
    while above not in moved and "/" in above:
        above, _, name = above.rpartition("/")
        below = f"/{name}{below}"
    return moved[above] + below if above in moved else uri


# what is compared before anything is copied


def _new_runs(source: sa.Connection, target: sa.Connection) -> set[str]:
    """Return the ids of the runs that the target lacks."""
    here, there = (set(one.scalars(sa.select(_RUNS.c.run_uuid))) for one in (source, target))
    return here - there


def _deleted_experiments(source: sa.Connection, target: sa.Connection) -> Iterator[str]:
    """Yield what keeps an experiment from getting its runs."""
    states = sa.select(_EXPERIMENTS.c.name, _EXPERIMENTS.c.lifecycle_stage, _EXPERIMENTS.c.experiment_id)
    there = {name: (stage, identity) for name, stage, identity in target.execute(states)}
    for name, _, _ in source.execute(states):
        stage, identity = there.get(name, ("", 0))
        if stage == LifecycleStage.DELETED:
            yield (
                f"The experiment '{name}' was deleted on the server. Restore it there with "
                f"`mlflow experiments restore --experiment-id {identity}`, or rename the one here in the MLflow UI."
            )


def _other_versions(source: sa.Connection, target: sa.Connection) -> Iterator[str]:
    """Yield what keeps a registered model from being copied."""
    columns = _VERSIONS.c
    query = sa.select(columns.workspace, columns.name, columns.version, columns.run_id)
    there = {tuple(row[:3]): row[3] for row in target.execute(query)}
    for *key, run_id in source.execute(query):
        if there.get(tuple(key), run_id) != run_id:
            yield (
                f"The registered model '{key[1]}' has another version {key[2]} on the server. Rename one of the "
                "two models in the MLflow UI."
            )


# artifacts


def _folders(source: sa.Connection, runs: set[str]) -> list[_Folder]:
    """Return the folders of artifacts on this machine of experiments, of `runs` and of their models."""
    found = []
    names = {}
    experiments = sa.select(
        _EXPERIMENTS.c.experiment_id, _EXPERIMENTS.c.name, _EXPERIMENTS.c.artifact_location
    )
    for identity, name, uri in source.execute(experiments):
        names[identity] = _SERVED + shortened(re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("."))
        found.append((uri, names[identity], False))
    of_runs = sa.select(_RUNS.c.run_uuid, _RUNS.c.artifact_uri, _RUNS.c.experiment_id)
    for run_id, uri, identity in source.execute(of_runs):
        found.append((uri, f"{names[identity]}/{run_id}/artifacts", run_id in runs))
    of_models = sa.select(
        _MODELS.c.model_id, _MODELS.c.artifact_location, _MODELS.c.experiment_id, _MODELS.c.source_run_id
    )
    for model_id, uri, identity, run_id in source.execute(of_models):
        new = f"{names[identity]}/models/{model_id}/artifacts"
        found.append((uri, new, run_id is None or run_id in runs))
    return [
        _Folder(uri, new, path if has_files and path.is_dir() else None)
        for uri, new, has_files in found
        if (path := local_path(uri or "")) is not None
    ]


def _copy_folder(source: Path, target: Path) -> int:
    """Copy a folder; return how many files were copied."""
    copied = 0

    def copy(file: str, to: str) -> None:
        nonlocal copied
        before, now = Path(to), Path(file).stat()
        if before.exists() and (before.stat().st_size, before.stat().st_mtime) == (now.st_size, now.st_mtime):
            return
        shutil.copy2(file, to)
        copied += 1

    try:
        shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    except (OSError, shutil.Error) as error:
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        raise ResourceError(
            f"{source} cannot be copied to {target}: {reason}. Start the import again once that is mended: it goes "
            "on with what is missing"
        ) from None
    return copied


# rows whose ids are the server's


def _copy_experiments(
    source: sa.Connection, target: sa.Connection, moved: Mapping[str, str]
) -> tuple[dict[int, int], int]:
    """Create the experiments that the target lacks; return its id for each, and how many are new."""
    target.execute(sa.text("LOCK TABLE experiments IN SHARE ROW EXCLUSIVE MODE"))  # ids are chosen
    key = (_EXPERIMENTS.c.workspace, _EXPERIMENTS.c.name)
    there = {tuple(row[:2]): row[2] for row in target.execute(sa.select(*key, _EXPERIMENTS.c.experiment_id))}
    here = [dict(row) for row in source.execute(sa.select(_EXPERIMENTS)).mappings()]
    taken = set(there.values())
    unused = itertools.count(max(taken | {row["experiment_id"] for row in here}, default=0) + 1)
    ids, new = dict[int, int](), list[Row]()
    for row in here:
        identity, known = row["experiment_id"], there.get((row["workspace"], row["name"]))
        if known is None:
            known = next(unused) if identity in taken else identity
            new.append(_changed({**row, "experiment_id": known}, moved, {}))
        ids[identity] = known
    if new:
        target.execute(sa.insert(_EXPERIMENTS), new)
        target.execute(_NUMBER_ON)
    return ids, len(new)


def _same_datasets(source: sa.Connection, target: sa.Connection, ids: Mapping[int, int]) -> dict[str, str]:
    """Return the target's ids of the datasets that it had already, by those in the source."""
    columns = _DATASETS.c
    query = sa.select(columns.experiment_id, columns.name, columns.digest, columns.dataset_uuid)
    there = {tuple(row[:3]): row[3] for row in target.execute(query)}
    return {
        uuid: there[ids[experiment], name, digest]
        for experiment, name, digest, uuid in source.execute(query)
        if experiment in ids
    }
