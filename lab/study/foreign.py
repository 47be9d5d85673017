"""Studies of plain Optuna, made by other programs."""

from __future__ import annotations

import math
import sqlite3
from datetime import datetime
from typing import Final

import optuna
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from lab.config import as_text
from lab.errors import StudyError
from lab.registry import suggest
from lab.study.addresses import database_exists, display_url
from lab.study.faults import translated
from lab.study.keys import is_lab_study
from lab.tracking import ForeignRun, ForeignStudy

__all__ = ["optuna_study"]

_OUTCOMES: Final = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_VALUE: Final = "value"  # of a study that has not named its objective
_REPORTED: Final = "reported"  # the values that a trial reported by step
_TABLES: Final = frozenset(
    {"studies", "trials", "version_info", "alembic_version"}
)  # that Optuna would create


def optuna_study(url: str, name: str | None = None) -> ForeignStudy:
    """Return the ended trials of a study in the database at `url`, which is only read.

    Args:
        url: SQLAlchemy's, as `optuna.load_study` takes it.
        name: of the study; None if there is only one.

    Raises:
        StudyError: there is no such database or study, it is not Optuna's, it cannot be read, or the study is lab's
            own.
    """
    database = display_url(url)
    if not database_exists(url):
        raise StudyError(f"There is no database at {database}")
    with translated(database, "opened", also=(sqlite3.Error, ImportError, RuntimeError, OSError)):
        _check_optunas(url, database)
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
        study = optuna.load_study(study_name=_chosen(storage, name, database), storage=storage)
        if is_lab_study(study.study_name, study.user_attrs):
            raise StudyError(
                f"'{study.study_name}' at {database} is a study of lab's: use --storage to read it"
            )
        trials = study.get_trials(deepcopy=False, states=tuple(_OUTCOMES))
    metrics = study.metric_names or [
        _VALUE if not place else f"{_VALUE}_{place}" for place in range(len(study.directions))
    ]
    maximize = study.directions[0] is optuna.study.StudyDirection.MAXIMIZE
    runs = [_run(trial, metrics) for trial in trials]
    return ForeignStudy(f"optuna:{database}#{study.study_name}", runs, metrics[0], maximize)


def _check_optunas(url: str, database: str) -> None:
    """Raise a `StudyError` if a database is another program's: Optuna would write its own tables into it."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if not set(sa.inspect(engine).get_table_names()) >= _TABLES:
        raise StudyError(f"{database} is no database of Optuna's: it has no table of studies")


def _chosen(storage: optuna.storages.RDBStorage, name: str | None, database: str) -> str:
    known = [study.study_name for study in storage.get_all_studies()]
    if name is None and len(known) == 1:
        return known[0]
    if name in known:
        return str(name)
    if not known:
        raise StudyError(f"There are no studies at {database}")
    if name is None:
        raise StudyError(f"Which study? Append #NAME to the address; {database} has {', '.join(known)}")
    raise StudyError(
        f"There is no study '{name}' at {database}.{suggest(name, known)} It has {', '.join(known)}"
    )


def _run(trial: FrozenTrial, metrics: list[str]) -> ForeignRun:
    params = {name: as_text(value) for name, value in trial.params.items()}
    label = " ".join(f"{name}={text}" for name, text in params.items())
    values = dict(zip(metrics, trial.values or (), strict=False))
    numbers = {
        name: float(value)
        for name, value in trial.user_attrs.items()
        if isinstance(value, int | float) and name not in values
    }
    return ForeignRun(
        key=str(trial.number),
        name=label or f"trial {trial.number}",
        params=params,
        metrics={name: value for name, value in {**numbers, **values}.items() if math.isfinite(value)},
        curves={
            step: {_REPORTED: value}
            for step, value in trial.intermediate_values.items()
            if not math.isnan(value)
        },
        outcome=_OUTCOMES[trial.state],
        began=_milliseconds(trial.datetime_start),
        ended=_milliseconds(trial.datetime_complete),
    )


def _milliseconds(when: datetime | None) -> int | None:
    return None if when is None else round(when.timestamp() * 1000)
