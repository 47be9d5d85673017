"""What it takes to read the runs of a large study: by lab, and by MLflow's own search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time

import requests
import sqlalchemy as sa

from benchmarks.common import judged, medians, show, take_turns
from lab.config import TrialConfig, parse_grid
from lab.engines import Stores, study_board
from lab.study import TrialEnded, feasible_cells, open_storage, submit, work
from lab.tracking import Reader, connect, open_reader, prepare
from lab.tracking.mlflow import MlflowTracker
from lab.tracking.tags import Tag
from tests.servers import free_port

__all__ = ["run"]

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
_AIM = 50  # times as fast as MLflow's search, on a database
_OF_THE_BOARD = ("best_value", "test_*", "seconds", "best_epoch", "epochs", "params")
_SEARCH = "MLflow's search_runs"


def run(runs: int, rounds: int) -> None:
    """Fill a study with `runs` runs, read them in turns from SQLite and through a server, and print the times."""
    with tempfile.TemporaryDirectory() as name:
        stores = _filled(Path(name), runs)
        database = {
            _SEARCH: lambda: _search(stores.tracking_uri),
            "lab, what a leaderboard needs": lambda: _read(open_reader(stores.tracking_uri), _OF_THE_BOARD),
            "lab, everything": lambda: _read(open_reader(stores.tracking_uri)),
            "`lab best`, without imports": lambda: _board(stores),
        }
        _measure(f"{runs:,} runs in SQLite", database, rounds, {"lab, what a leaderboard needs": _AIM})
        with _server(Path(name)) as url:
            through = {
                _SEARCH: lambda: _search(url),
                "lab, everything": lambda: _read(connect(url)),
            }
            _measure(f"{runs:,} runs through an MLflow server", through, rounds, {})


def _measure(
    title: str, variants: Mapping[str, Callable[[], object]], rounds: int, aims: Mapping[str, float]
) -> None:
    processor: dict[str, list[float]] = {name: [] for name in variants}

    def timed(name: str) -> Callable[[], float]:
        def measure() -> float:
            began, used = perf_counter(), process_time()
            variants[name]()
            processor[name].append(process_time() - used)
            return perf_counter() - began

        return measure

    times = take_turns({name: timed(name) for name in variants}, rounds)
    rows = []
    for name, (seconds, ratio, least, most) in medians(times, _SEARCH).items():
        own = min(processor[name])
        aim = judged(1 / ratio >= aims[name], f"≥ {aims[name]:.0f}x") if name in aims else ""
        span = "" if name == _SEARCH else f"{1 / most:.1f}–{1 / least:.1f}"
        rows.append([name, f"{seconds:.3f}", f"{own:.3f}", f"{1 / ratio:.1f}x", span, aim])
    columns = ["", "seconds", "its own CPU", "times as fast", "in each round", "aim"]
    show(title, columns, rows, f"Medians of {rounds} rounds, in turns after one to warm up.")


def _search(uri: str) -> Sequence[object]:
    """Return the study's runs as MLflow's client has them, page after page."""
    tracker = MlflowTracker(uri)
    tags = {Tag.STUDY: _STUDY, Tag.KIND: "trial"}
    return tracker._search(tracker.find_experiment(_STUDY), tags, "attributes.start_time DESC")


def _read(reader: Reader, metrics: Sequence[str] | None = None) -> None:
    tags = {Tag.STUDY: _STUDY, Tag.KIND: "trial"}
    reader.runs(reader.find_experiment(_STUDY), tags=tags, metrics=metrics)


def _board(stores: Stores) -> None:
    study_board(_STUDY, stores)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Run an MLflow server on the database in `folder`; yield its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
        *("--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", f"{folder}/artifacts"),
    ]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not _answers(url):
            if server.poll() is not None:
                raise RuntimeError((folder / "server.log").read_text()[-3000:])
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=1).ok
    except requests.RequestException:
        return False


def _filled(folder: Path, cells: int) -> Stores:
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
    grid = parse_grid(_GRID.format(rates=rates))
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    submit(grid, feasible_cells(grid), open_storage(stores.storage), tracker)
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
    return dict(connection.execute(sa.text(query), {"of": of}).tuples().all())


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
