"""What it takes to read the runs of a large study: by lab, and by MLflow's own search."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import mlflow
import requests
import sqlalchemy as sa

from benchmarks.common import judged, medians, show, take_turns
from lab.config import TrialConfig, parse_grid
from lab.engines import Stores, study_board
from lab.study import TrialEnded, feasible_cells, open_storage, submit, work
from lab.tracking import connect, prepare
from tests.servers import free_port

__all__ = ["filled", "run"]

_STUDY = "board"
_GRID = """
name: board
base: {{dataset: digits, width: 16}}
grid:
  lr: [{rates}]
  optimizer: [adam, sgd]
  activation: [relu, gelu]
  dropout: [0.0, 0.1, 0.2, 0.3, 0.4]
repeats: 5
epochs: 1
"""
_PER_RATE = 100  # cells with the same learning rate
_TIMES = 50  # as fast as MLflow's search, at least


def filled(folder: Path, cells: int) -> Stores:
    """Return stores with a study of `cells` trials: one is trained, the others are copies with their own settings."""
    stores = Stores(
        storage=f"sqlite:///{folder}/optuna.db",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        artifact_dir=folder / "artifacts",
        checkpoint_dir=folder / "checkpoints",
        journal_dir=folder / "journal",
    )
    prepare(stores.tracking_uri)
    rates = ", ".join(f"{0.001 * number:.6f}" for number in range(1, cells // _PER_RATE + 1))
    planned = feasible_cells(parse_grid(_GRID.format(rates=rates)))
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    submit(parse_grid(_GRID.format(rates=rates)), planned, open_storage(stores.storage), tracker)
    done: list[TrialEnded] = []
    work(
        stores.for_worker(_STUDY),
        lambda event: done.append(event) if isinstance(event, TrialEnded) else None,
        lambda: bool(done),
    )
    _copy(stores)
    return stores


def _copy(stores: Stores) -> None:
    """Let every trial that waits end as the one that has, with a run of its own."""
    studies, runs = sa.create_engine(stores.storage), sa.create_engine(stores.tracking_uri)
    with studies.begin() as study, runs.begin() as run:
        ended = study.execute(sa.text("SELECT trial_id FROM trials WHERE state = 'COMPLETE'")).scalar_one()
        attributes = _pairs(
            study, "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = :of", ended
        )
        source = json.loads(attributes["lab:run_id"])
        for trial_id, number in study.execute(
            sa.text("SELECT trial_id, number FROM trials WHERE state = 'WAITING'")
        ).all():
            own = _pairs(
                study, "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = :of", trial_id
            )
            new = uuid.uuid4().hex
            _copy_run(run, source, new, number, TrialConfig(**json.loads(own["lab:config"])))
            _copy_trial(study, trial_id, number, attributes | {"lab:run_id": json.dumps(new)}, own)


def _pairs(connection: sa.Connection, query: str, of: object) -> dict[str, str]:
    return {key: value for key, value in connection.execute(sa.text(query), {"of": of})}


def _copy_trial(
    study: sa.Connection, trial_id: int, number: int, attributes: dict[str, str], own: dict[str, str]
) -> None:
    rows = [
        {"of": trial_id, "key": key, "value": value} for key, value in attributes.items() if key not in own
    ]
    study.execute(
        sa.text("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:of, :key, :value)"),
        rows,
    )
    study.execute(
        sa.text(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (:of, 0, :value, 'FINITE')"
        ),
        {"of": trial_id, "value": _value(number)},
    )
    study.execute(sa.text("UPDATE trials SET state = 'COMPLETE' WHERE trial_id = :of"), {"of": trial_id})


def _copy_run(runs: sa.Connection, source: str, new: str, number: int, config: TrialConfig) -> None:
    for table in ("runs", "params", "latest_metrics", "tags"):
        columns = [each["name"] for each in sa.inspect(runs).get_columns(table)]
        others = ", ".join(name for name in columns if name != "run_uuid")
        runs.execute(
            sa.text(
                f"INSERT INTO {table} (run_uuid, {others}) SELECT :new, {others} FROM {table} WHERE run_uuid = :of"
            ),
            {"new": new, "of": source},
        )
    tags = {"lab.trial": str(number), "lab.cell": config.cell_hash}
    for table, values in (("params", config.as_params()), ("tags", tags)):
        runs.execute(
            sa.text(f"UPDATE {table} SET value = :value WHERE run_uuid = :new AND key = :key"),
            [{"new": new, "key": key, "value": value} for key, value in values.items()],
        )
    runs.execute(
        sa.text(
            "UPDATE latest_metrics SET value = :value WHERE run_uuid = :new AND key IN ('best_value', 'test_accuracy')"
        ),
        {"new": new, "value": _value(number)},
    )


def _value(number: int) -> float:
    return 0.5 + (number * 7919 % 5003) / 10_006
