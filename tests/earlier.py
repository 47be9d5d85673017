"""An earlier version of lab as a separate program, and what it left in its databases.

The databases are read with plain SQL: what a test compares must not come from the code under test.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CLOCK", "EarlierLab", "TrialRow", "extract", "points", "rows", "run_tags", "runs", "trials"]

REPOSITORY = Path(__file__).parents[1]
CLOCK = {"epoch_seconds", "images_per_second", "seconds"}  # metrics that differ between any two runs
_SECONDS = 240  # maximum for a command; a loaded machine is slow

_TRIALS = """
SELECT t.trial_id, t.number, t.state,
  (SELECT COUNT(*) FROM trial_intermediate_values v WHERE v.trial_id = t.trial_id)
FROM trials t JOIN studies s ON s.study_id = t.study_id WHERE s.study_name = ? ORDER BY t.number
"""
_POINTS = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step"


def extract(commit: str, folder: Path) -> None:
    """Put the package and the grids of an earlier `commit` into `folder`; skip if git does not have it."""
    command = ["git", "-C", str(REPOSITORY), "archive", commit, "lab", "grids"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the earlier version {commit} is not here: {error}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


@dataclass
class EarlierLab:
    """The `lab` command of the version in `code`, in the folder `home`."""

    code: Path
    home: Path
    tracking_uri: str | None = None

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in its own process group."""
        return self._start("-m", "lab", *words)

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command to its end, check its exit code and return its output."""
        return self._finish(self.start(*words), code)

    def script(self, text: str, *words: str) -> str:
        """Run a Python script with this version; return its output."""
        return self._finish(self._start("-c", text, *words), 0)

    def interrupt(self, process: subprocess.Popen[str], code: int = 130) -> str:
        """Press Ctrl-C; return the output."""
        process.send_signal(signal.SIGINT)
        return self._finish(process, code)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill the command and all its workers at once."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def wait(self, process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds while the command runs."""
        end = time.monotonic() + _SECONDS
        while not condition():
            if process.poll() is not None or time.monotonic() > end:
                self.kill(process)
                pytest.fail(
                    "the earlier version ended or took too long before it reached the state that the test needs"
                )
            time.sleep(0.02)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(self.code), "LAB_CACHE_DIR": str(self.home / "cache")}
        environment |= {"MLFLOW_TRACKING_URI": self.tracking_uri} if self.tracking_uri else {}
        with (self.home / "earlier.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=self.home,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def _finish(self, process: subprocess.Popen[str], code: int) -> str:
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise
        log = (self.home / "earlier.log").read_text()[-3000:]
        assert process.returncode == code, f"{process.args} ended with {process.returncode}:\n{output}\n{log}"
        return output


@dataclass(frozen=True)
class TrialRow:
    """A trial in Optuna's tables; `epochs` is the number of values it has reported."""

    number: int
    state: str
    epochs: int
    attributes: dict[str, Any]
    params: dict[str, float]

    @property
    def cell(self) -> str:
        return str(self.attributes["lab:cell"])

    @property
    def run_id(self) -> str | None:
        return self.attributes.get("lab:run_id")


def trials(home: Path, study: str) -> list[TrialRow]:
    """Return the trials of a study, by number; none if the study does not exist yet."""
    file = home / ".lab" / "optuna.db"
    found = []
    for trial_id, number, state, epochs in rows(file, _TRIALS, study):
        attributes = rows(
            file, "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = ?", trial_id
        )
        params = rows(file, "SELECT param_name, param_value FROM trial_params WHERE trial_id = ?", trial_id)
        noted = {key: json.loads(value) for key, value in attributes}
        found.append(TrialRow(number, state, epochs, noted, dict(params)))
    return found


def runs(home: Path, study: str) -> dict[str, str]:
    """Return the run of each cell of a study: that of its newest trial that has one."""
    return {trial.cell: trial.run_id for trial in trials(home, study) if trial.run_id is not None}


def points(database: Path, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Return all points of a run's metrics except timings; fail if a step is repeated."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, step, value in rows(database, _POINTS, _stored(database, run_id)):
        if name not in CLOCK and not name.startswith("system/"):
            found.setdefault(name, []).append((step, value))
    for name, history in found.items():
        assert len({step for step, _ in history}) == len(history), f"{name} repeats a step: {history}"
    return found


def run_tags(database: Path, run_id: str) -> dict[str, str]:
    """Return the tags of a run, its status as `status`."""
    run_id = _stored(database, run_id)
    tags = dict(rows(database, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id))
    ((status,),) = rows(database, "SELECT status FROM runs WHERE run_uuid = ?", run_id)
    return {**tags, "status": status}


def _stored(database: Path, run_id: str) -> str:
    """Return MLflow's id of a run: studies know one that began while the server was down as `pending-KEY`."""
    if not run_id.startswith("pending-"):
        return run_id
    query = "SELECT run_uuid FROM tags WHERE key = 'lab.journal' AND value = ?"
    ((stored,),) = rows(database, query, run_id.removeprefix("pending-"))
    return str(stored)


def rows(database: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a SQLite database; none if it, or the table, does not exist yet."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
