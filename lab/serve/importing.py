"""Moves what a single machine's `.lab` holds to a server: studies and runs, with everything that is known of them."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from lab import study, tracking, training  # lazy: torch is imported once something of theirs is used
from lab.errors import ConfigError, LabError
from lab.places import sqlite_address
from lab.server_file import ServerFile
from lab.tracking.tags import Tag
from lab.wording import counted

if TYPE_CHECKING:
    from lab.study import StudyCopy
    from lab.tracking import RunCopy, Tracker

__all__ = ["Imported", "import_home", "is_embedded"]

Progress = Callable[[str, int, int], None]

_STUDIES, _RUNS = "optuna.db", "mlflow.db"
_DONE = ".imported"  # what is appended to the names of databases whose contents are on a server
_BUSY_SECONDS = 5.0


@dataclass(frozen=True)
class Imported:
    """What an import moved to the server; `skipped` are the studies that it had already."""

    studies: tuple[str, ...] = ()
    trials: int = 0
    experiments: int = 0
    runs: int = 0
    files: int = 0
    checkpoints: int = 0
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f" ({', '.join(self.studies)})" if self.studies else ""
        text = (
            f"Imported {counted(len(self.studies), 'study')}{names} with {counted(self.trials, 'trial')}, "
            f"{counted(self.runs, 'run')} and {counted(self.files, 'file')}."
        )
        if self.skipped:
            text += f" On the server already: {', '.join(self.skipped)}."
        return text


def is_embedded(folder: Path) -> bool:
    """Return whether a folder has the stores of a single machine, or one of them."""
    return (folder / _STUDIES).exists() or (folder / _RUNS).exists()


def import_home(
    home: Path,
    server: ServerFile,
    *,
    database: str,
    artifacts: Path,
    on_progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Move the studies and runs in the folder `home`, a `.lab` with SQLite databases, to a running server.

    Writes that never reached the runs are delivered first. Studies come last, so that workers of the server see only
    what can be continued. An import that was broken off can be started again: nothing is copied twice. In the end the
    two databases are renamed, so that no command continues them by mistake; everything else in `home` stays.

    Args:
        home: a folder such as `.lab`.
        server: where to.
        database: SQLAlchemy's address of MLflow's database on the server.
        artifacts: the folder on this machine that the server keeps artifacts in.
        on_progress: called with what is being moved, how much of it is done, and of how much.

    Raises:
        ConfigError: there is nothing to import.
        LabError: workers still run, the server has other things of the same names, or a store failed. In the first two
            cases nothing was copied.
    """
    server.use()
    source = _Embedded(home.resolve())
    with ExitStack() as held:
        held.enter_context(_held(source.studies))
        source.deliver_journals()
        held.enter_context(_held(source.runs))
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="import-", dir=source.folder)))
        imported = _Import(source, scratch, server, database, artifacts, on_progress).move()
    source.put_aside()
    return imported


class _Embedded:
    """A folder with the stores of a single machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies, self.runs = folder / _STUDIES, folder / _RUNS
        self.artifacts, self.checkpoints = folder / "artifacts", folder / "checkpoints"
        self._journals = folder / "journal"
        if not is_embedded(folder):
            done = folder / f"{_STUDIES}{_DONE}"
            why = (
                f"{done} was imported before" if done.exists() else f"neither {_STUDIES} nor {_RUNS} is in it"
            )
            raise ConfigError(f"{folder}: there is nothing to import: {why}")
        _refuse_users(self.studies)

    def deliver_journals(self) -> None:
        """Let the runs have all that was logged to them.

        Raises:
            LabError: some of it cannot be delivered.
        """
        uri = sqlite_address(self.runs)
        tracking.follow(uri, self.artifacts, self._journals)
        if not tracking.left(self._journals, tracking.public_uri(uri)):
            return
        delivered = tracking.deliver(tracking.connect(uri, self.artifacts), self._journals)
        if delivered.left.writes > delivered.left.refused:
            why = delivered.away or "a process still writes them; end it first"
            raise LabError(
                f"{self.folder}: {delivered.left} cannot be delivered: {why}. Nothing was imported"
            )

    def put_aside(self) -> None:
        """Rename the databases, whose contents are elsewhere now."""
        for database in (self.studies, self.runs):
            for name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
                with suppress(FileNotFoundError):
                    (self.folder / name).rename(self.folder / name.replace(".db", f".db{_DONE}"))


@dataclass(frozen=True)
class _Import:
    """One import; the fields are those of `import_home`, and a folder for copies of the databases."""

    source: _Embedded
    scratch: Path
    server: ServerFile
    database: str
    artifacts: Path
    on_progress: Progress

    def move(self) -> Imported:
        """Check everything, then move it."""
        studies, runs = self._studies(), self._runs()
        plan = study.CopyPlan() if studies is None else studies.plan()
        if runs is not None:
            runs.check()
        copied = tracking.CopiedRuns() if runs is None else runs.copy(self.on_progress)
        checkpoints = self._upload_checkpoints(copied.run_ids, plan.new)
        trials = 0
        if studies is not None and plan.new:
            trials = studies.copy(plan.new, lambda done, total: self.on_progress("trials", done, total))
        return Imported(
            studies=tuple(plan.new),
            trials=trials,
            experiments=copied.experiments,
            runs=len(copied.run_ids),
            files=copied.files,
            checkpoints=checkpoints,
            skipped=tuple(plan.there),
        )

    def _studies(self) -> StudyCopy | None:
        if not self.source.studies.exists():
            return None
        studies = study.StudyCopy(_snapshot(self.source.studies, self.scratch), self.server.storage)
        living = studies.living()
        if living:
            raise LabError(
                f"{self.source.folder}: workers still run: {', '.join(living)}. Stop them (Ctrl-C or SIGTERM), then "
                "import; nothing was imported"
            )
        return studies

    def _runs(self) -> RunCopy | None:
        if not self.source.runs.exists():
            return None
        return tracking.RunCopy(_snapshot(self.source.runs, self.scratch), self.database, self.artifacts)

    def _upload_checkpoints(self, run_ids: Collection[str], studies: Collection[str]) -> int:
        """Keep the checkpoints on this machine's disk in their runs too, so that any machine can go on from them."""
        folders = [
            folder
            for folder in self.source.checkpoints.glob("*")
            if training.FolderCheckpoints(folder).newest
        ]
        store, uploaded = tracking.connect(self.server.tracking_uri), 0
        for done, folder in enumerate(folders):
            self.on_progress("checkpoints", done, len(folders))
            uploaded += _upload(store, folder, run_ids, studies)
        return uploaded


def _upload(store: Tracker, folder: Path, run_ids: Collection[str], studies: Collection[str]) -> bool:
    """Upload the checkpoint in `folder`, named after its run, unless the server's workers may have gone on with it."""
    newest, run_id = training.FolderCheckpoints(folder).newest, tracking.run_in_store(store, folder.name)
    if newest is None or run_id is None or store.missing_runs([run_id]):
        return False
    if run_id not in run_ids and store.tags(run_id).get(Tag.STUDY) not in studies:
        return False
    tracking.RunCheckpoints(store, store.attach(run_id)).add(newest)
    return True


def _refuse_users(database: Path) -> None:
    """Raise if a process on this machine has the study database open, such as a worker that waits for trials."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # another user's, or it has just ended
            if process.pid != os.getpid() and any(
                Path(file.path) == database for file in process.open_files()
            ):
                raise LabError(
                    f"{database}: is in use by process {process.pid} (`{' '.join(process.cmdline()[-4:])}`). End it, "
                    "then import; nothing was imported"
                )


@contextmanager
def _held(database: Path) -> Iterator[None]:
    """Keep others from writing to a SQLite database, if it exists."""
    if not database.exists():
        yield
        return
    with closing(sqlite3.connect(database, _BUSY_SECONDS, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise LabError(f"{database}: cannot be imported: {error}. Nothing was imported") from None
        yield
        connection.execute("ROLLBACK")
        with suppress(sqlite3.OperationalError):  # others read it
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _snapshot(database: Path, folder: Path) -> Path:
    """Copy a SQLite database, with what is in its log; return the copy."""
    copy = folder / database.name
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
