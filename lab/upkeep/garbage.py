"""Files that can be deleted: of deleted runs, checkpoints that nothing is continued from, images that nobody reads."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.data.cache import cached_arrays
from lab.engines import Stores
from lab.errors import ResourceError, StudyError
from lab.study import StudyRuns, database_exists, study_runs
from lab.tracking import MemoryTracker, RunStatus, Tracker, connect, pending_id
from lab.tracking.tags import Tag

__all__ = ["Garbage", "as_dict", "find_garbage", "remove", "total"]

_DELETED = "artifacts of a deleted run"
_CONTINUING = "checkpoints of a finished run"
_LOCAL = "local checkpoints"
_CACHED = "cached data"
_FOLDER = "checkpoints"
# never `best.pt`: other trials may begin with it
_TO_GO_ON = tuple(f"{_FOLDER}/{name}" for name in ("last.pt", "spare.pt", "spare2.pt"))
_DAY = 86_400.0


@dataclass(frozen=True)
class Garbage:
    """Files of one run that can be deleted, or a file of the data cache.

    Args:
        kind: what they are.
        where: id of the run, or a local folder or file.
        run: name of the run; empty for the data cache.
        study: its study; empty if it has none.
        files: number of files.
        size: their total size in bytes.
        paths: the artifacts to delete; all artifacts of the run if None.
    """

    kind: str
    where: str
    run: str
    study: str
    files: int
    size: int
    paths: tuple[str, ...] | None = None

    @property
    def is_local(self) -> bool:
        """Whether `where` is a local folder or file."""
        return self.kind in (_LOCAL, _CACHED)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the paths as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "paths"}


@dataclass(frozen=True)
class _Run:
    """What decides whether a run's files can be deleted; `ended` is in seconds since 1970."""

    run_id: str
    name: str
    study: str
    key: str  # of the journal that opened it
    status: str
    outcome: str
    ended: float

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids by which a study may know it."""
        return (self.run_id, pending_id(self.key)) if self.key else (self.run_id,)

    @property
    def is_finished(self) -> bool:
        """Whether its trial ended in a way that is never continued."""
        return self.status == RunStatus.FINISHED or self.outcome == "pruned"


def find_garbage(
    stores: Stores,
    *,
    days: float,
    studies: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_strange: Callable[[str, str], None] = lambda run, place: None,
) -> Iterator[Garbage]:
    """Yield what can be deleted from the tracking store and this machine's checkpoints and data cache; changes nothing.

    Args:
        stores: the stores to search.
        days: minimum age, since a run's end, or since a local checkpoint was written or cached data read.
        studies: names of the studies to search; if empty all, and files that belong to no study.
        on_progress: called with the number of runs searched and the number of all runs.
        on_strange: called with a run whose artifacts are left alone, and their place: they are outside the folders of
            these stores, so they may belong to another project.

    Raises:
        StudyError: there is no such study, or the studies cannot be read.
        TrackingError: the tracking store fails.
    """
    tracker = _tracker(stores)
    known = study_runs(stores.storage)
    deleted = _rows(tracker.deleted_runs())
    active = _rows(tracker.runs(None, tags={Tag.KIND: "trial"}, metrics=()))
    _check_names(studies, known, [*deleted, *active])
    search = _Search(stores, tracker, known, time.time() - days * _DAY, frozenset(studies))
    chosen = [run for run in deleted if search.may_go(run)]
    finished = [run for run in active if search.may_go(run) and search.is_over(run)]
    total = len(chosen) + len(finished)
    for done, run in enumerate(chosen + finished):
        on_progress(done, total)
        strange = [place.uri for place in tracker.places(run.run_id) if not place.own]
        if strange:
            on_strange(run.run_id, strange[0])
            continue
        yield from search.deleted(run) if done < len(chosen) else search.finished(run)
    on_progress(total, total)
    yield from search.local(deleted, active)
    if not studies:  # all of them share it
        yield from search.cached()


def total(found: Sequence[Garbage]) -> tuple[int, int]:
    """Return how many files these are, and their size in bytes."""
    return sum(each.files for each in found), sum(each.size for each in found)


def as_dict(found: Sequence[Garbage]) -> dict[str, Any]:
    """Return these files, and their totals, as plain values."""
    files, size = total(found)
    return {"files": files, "size": size, "garbage": [each.as_dict() for each in found]}


def remove(garbage: Garbage, stores: Stores) -> None:
    """Delete the files; files that are gone already are no error.

    Raises:
        TrackingError: the tracking store fails.
        ResourceError: the local folder or file cannot be deleted.
    """
    if not garbage.is_local:
        _tracker(stores).delete_files(garbage.where, garbage.paths)
        return
    try:
        if garbage.kind == _CACHED:
            Path(garbage.where).unlink()
        else:
            shutil.rmtree(garbage.where)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResourceError(f"{garbage.where} cannot be deleted: {error.strerror or error}") from None


def _tracker(stores: Stores) -> Tracker:
    """Return the tracking store, without creating one that does not exist yet."""
    if not database_exists(stores.tracking_uri):
        return MemoryTracker()
    return connect(stores.tracking_uri, stores.artifact_dir)


@dataclass(frozen=True)
class _Search:
    """Searches for garbage; only what was last used `before`, in seconds since 1970, is old enough."""

    stores: Stores
    tracker: Tracker
    known: StudyRuns | None
    before: float
    studies: Collection[str]

    def may_go(self, run: _Run) -> bool:
        """Whether a run belongs to a chosen study that can be read, and is old enough."""
        chosen = not self.studies or run.study in self.studies
        return run.ended <= self.before and chosen and not self._is_broken(run.study)

    def is_over(self, run: _Run) -> bool:
        """Whether the trial of a run will not be continued: it is finished, and no study says otherwise."""
        return run.is_finished and all(self._done(identity) is not False for identity in run.ids)

    def deleted(self, run: _Run) -> Iterator[Garbage]:
        """Yield all files of a deleted run."""
        files = self.tracker.files(run.run_id)
        if files:
            yield Garbage(_DELETED, run.run_id, run.name, run.study, len(files), sum(files.values()))

    def finished(self, run: _Run) -> Iterator[Garbage]:
        """Yield the checkpoints of a finished run that only its own trial could be continued from."""
        files = self.tracker.files(run.run_id, _FOLDER)
        paths = tuple(path for path in _TO_GO_ON if path in files)
        if paths:
            size = sum(files[path] for path in paths)
            yield Garbage(_CONTINUING, run.run_id, run.name, run.study, len(paths), size, paths)

    def local(self, deleted: Sequence[_Run], active: Sequence[_Run]) -> Iterator[Garbage]:
        """Yield the local folders of trials that are done or whose runs were deleted."""
        runs = {identity: run for run in (*active, *deleted) for identity in run.ids}
        gone = {run.run_id for run in deleted}
        for folder in sorted(_folders(self.stores.checkpoint_dir)):
            run = runs.get(folder.name)
            study = self._study(folder.name, run)
            if (self.studies and study not in self.studies) or self._is_broken(study):
                continue
            if self._is_unneeded(folder.name, run, gone):
                yield from self._folder(folder, run, study)

    def cached(self) -> Iterator[Garbage]:
        """Yield the arrays of the data cache; whatever is deleted is made again when it is needed."""
        for file, size, used in cached_arrays():
            if used <= self.before:
                yield Garbage(_CACHED, str(file), "", "", 1, size)

    def _is_broken(self, study: str) -> bool:
        """Whether a study cannot be read, so that any of its trials may still be continued."""
        return self.known is not None and study in self.known.broken

    def _is_unneeded(self, name: str, run: _Run | None, gone: Collection[str]) -> bool:
        """Whether no trial will be continued from the folder of a run; False if nothing is known about the run."""
        identities = {name, *(run.ids if run else ())}
        done = [state for each in identities if (state := self._done(each)) is not None]
        if done:
            return all(done)
        # a study that is not in this database may be in another one, which continues its killed trials
        return run is not None and self.known is not None and (run.run_id in gone or run.is_finished)

    def _folder(self, folder: Path, run: _Run | None, study: str) -> Iterator[Garbage]:
        try:
            files = [each.stat() for each in folder.rglob("*") if each.is_file()]
            newest = max([folder.stat().st_mtime, *(file.st_mtime for file in files)])
        except FileNotFoundError:  # its trial has just ended
            return
        if newest <= self.before:
            name = run.name if run else ""
            size = sum(file.st_size for file in files)
            yield Garbage(_LOCAL, str(folder), name, study, len(files), size)

    def _study(self, name: str, run: _Run | None) -> str:
        known = self.known.study.get(name) if self.known else None
        return known or (run.study if run else "")

    def _done(self, run_id: str) -> bool | None:
        """Whether the trial of this run is done; None if no study has it."""
        return None if self.known is None else self.known.done.get(run_id)


def _folders(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check_names(studies: Sequence[str], known: StudyRuns | None, runs: Sequence[_Run]) -> None:
    there = {run.study for run in runs if run.study} | (known.studies if known else set())
    for name in studies:
        if name not in there:
            names = ", ".join(sorted(there)) or "none"
            raise StudyError(f"--study: there is no study '{name}' here, nor any run of it. Known: {names}")


def _rows(frame: pd.DataFrame) -> list[_Run]:
    return [
        _Run(
            run_id=row["run_id"],
            name=_text(row["name"]),
            study=_text(row.get(f"tags.{Tag.STUDY}")),
            key=_text(row.get(f"tags.{Tag.JOURNAL}")),
            status=row["status"],
            outcome=_text(row.get(f"tags.{Tag.OUTCOME}")),
            # a run that never ended is as old as its start
            ended=(row["start_time"] if pd.isna(row["end_time"]) else row["end_time"]).timestamp(),
        )
        for row in frame.to_dict("records")
    ]


def _text(value: object) -> str:
    """Return the text in a cell of the table; one that the run lacks is NaN, which counts as true."""
    return value if isinstance(value, str) else ""
