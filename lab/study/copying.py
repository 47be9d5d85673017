"""Copies whole studies from one database to another: nothing of them changes but Optuna's internal ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.places import sqlite_address
from lab.study.faults import translated
from lab.study.lock import locked
from lab.study.opening import open_storage
from lab.study.queue import TrialQueue
from lab.study.record import StudyRecord
from lab.study.storage import PatientStorage
from lab.study.studies import study_names_in
from lab.tracking.tables import TableCopier

__all__ = ["CopyPlan", "StudyCopy"]

_TABLES = [table for table in models.BaseModel.metadata.sorted_tables if table.name != "version_info"]
_FINISHED = sa.text(
    "SELECT t.number, t.state, t.datetime_complete FROM trials t JOIN studies s ON s.study_id = t.study_id "
    "WHERE s.study_name = :name AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')"
).columns(datetime_complete=sa.DateTime)


@dataclass
class CopyPlan:
    """The names of the studies to copy, and of those that the other database has already."""

    new: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)


class StudyCopy:
    """Copies the studies of a SQLite `database`, which nobody else uses, to the database at `target`.

    The first is brought to the present version, so it should itself be a copy.

    Raises:
        StudyError: one of them cannot be opened.
    """

    def __init__(self, database: Path, target: str) -> None:
        url = sqlite_address(database)
        with translated(url, "opened"):
            older = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
            if older.get_current_version() != older.get_head_version():
                older.upgrade()
            older.engine.dispose()
        self._source = open_storage(url)
        self._target = open_storage(target)

    def living(self) -> list[str]:
        """Return the trials that a worker trains at this moment, in words."""
        found = []
        for queue in self._own():
            silent = set(self._source._get_stale_trial_ids(queue.study_id))
            found += [
                f"trial {record.number} of {queue.name} ({record.worker_name or 'just started'})"
                for record in queue.records(TrialState.RUNNING)
                if record.trial_id not in silent and not record.is_dead
            ]
        return found

    def plan(self) -> CopyPlan:
        """Return what is to be copied.

        Raises:
            StudyError: the target has another study of the same name, or the study has gone on since it was copied.
        """
        plan, known = CopyPlan(), set(_names(self._target))
        for name in _names(self._source):
            if name not in known:
                plan.new.append(name)
            else:
                self._check_same(name)
                plan.there.append(name)
        return plan

    def copy(self, names: list[str], on_progress: Callable[[int, int], None]) -> int:
        """Copy the studies called `names`, all of them or none; return how many trials they have.

        Trials whose worker has exited are put back first: workers elsewhere could not tell.
        """
        for queue in self._own():
            for record in queue.records(TrialState.RUNNING):
                queue.put_back(record.trial_id, record.worker_name)
        with translated(self._target.database), locked(self._target.engine, "import"):
            return self._copy(names, on_progress)

    def _copy(self, names: list[str], on_progress: Callable[[int, int], None]) -> int:
        studies, trials = models.StudyModel.__table__, models.TrialModel.__table__
        with self._source.engine.connect() as source, self._target.engine.begin() as target:
            chosen = source.execute(sa.select(studies.c.study_id).where(studies.c.study_name.in_(names)))
            ids = set(chosen.scalars())
            total = source.scalar(sa.select(sa.func.count()).where(trials.c.study_id.in_(ids))) or 0
            copier = TableCopier(source, target, {})
            for table in _TABLES:
                copier.copy(table, *([studies.c.study_id.in_(ids)] if table is studies else []))
                on_progress(len(copier.ids.get("trial_id", ())), total)
            return len(copier.ids.get("trial_id", ()))

    def _own(self) -> list[TrialQueue]:
        return [TrialQueue(self._source, name) for name in study_names_in(self._source).own]

    def _check_same(self, name: str) -> None:
        run_id, at = _run_id(self._source, name), self._target.database
        more = _finished(self._source, name) - _finished(self._target, name)
        if run_id != _run_id(self._target, name) or (more and not run_id):  # another program's have none
            raise StudyError(
                f"Another study '{name}' is at {at} already. Finish this one where it is, or import it into "
                "a new server, started in another folder"
            )
        if more:
            raise StudyError(
                f"The study '{name}' was imported into {at} before, and has gone on here since: its trials have "
                "diverged. Go on with the one on the server"
            )


def _names(storage: PatientStorage) -> list[str]:
    return sorted(study.study_name for study in storage.get_all_studies())


def _run_id(storage: PatientStorage, name: str) -> str:
    attributes = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    return StudyRecord.read(name, attributes).run_id


def _finished(storage: PatientStorage, name: str) -> set[tuple[Any, ...]]:
    with storage.engine.connect() as connection:
        return {tuple(row) for row in connection.execute(_FINISHED, {"name": name})}
