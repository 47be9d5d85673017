"""The `lab` command: in this process where that is enough, otherwise as real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import cached_property
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from lab.cli import main
from lab.config import parse_grid
from lab.engines import sweep
from lab.tracking import Tracker, connect
from tests.once import copy_of, made_once
from tests.stores import stores_in

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 120  # seconds; a loaded machine is slow

CONFIG = (
    "dataset: synthetic\nimage_size: 8\nwidth: 4\ndepth: 1\nbatch_size: 256\npatience: none\nthreads: 1\n"
)

GRID = """
name: tiny
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: 2
  batch_size: 256
  patience: none
grid:
  lr: [0.01, 0.02]
  activation: [relu, tanh]
exclude:
  - {lr: 0.02, activation: tanh}
constraints:
  - params <= 100_000
"""


class Lab:
    """`lab` in the folder `home`, which has a grid file and a config file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, *args: object, env: dict[str, str] | None = None) -> Result:
        """Run a command in this process."""
        result = CliRunner(env=env).invoke(main, [str(arg) for arg in args], prog_name="lab")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def start(self, *args: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command as a process in its own process group."""
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", *map(str, args)],
            cwd=self.home,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    @cached_property
    def tracker(self) -> Tracker:
        return connect(f"sqlite:///{self.home / '.lab' / 'mlflow.db'}")

    def runs(self, experiment: str, kind: str = "trial") -> pd.DataFrame:
        tags = {"lab.kind": kind}
        return self.tracker.runs(self.tracker.experiment(experiment), tags=tags).sort_values(
            "name", ignore_index=True
        )

    def curves(self, run_id: str) -> list[dict[int, float]]:
        """Return the run's curves, except those that depend on the clock."""
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_accuracy", "best_value")
        return [self.tracker.history(run_id, name) for name in names]


@pytest.fixture
def lab(tmp_path: Path, fresh_databases: Path) -> Iterator[Lab]:
    (tmp_path / ".lab").mkdir()
    for file in fresh_databases.glob("*.db"):
        shutil.copy(file, tmp_path / ".lab")
    (tmp_path / "tiny.yaml").write_text(GRID)
    (tmp_path / "config.yaml").write_text(CONFIG)
    lab = Lab(tmp_path)
    yield lab
    for process in lab.processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def calm_curves(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> list[object]:
    """The curves of an undisturbed sweep of 60 epochs."""

    def make(home: Path) -> None:
        copy_of(fresh_databases, home / ".lab")
        sweep(parse_grid(GRID, overrides={"epochs": 60}), stores_in(home / ".lab"), workers=1)

    calm = Lab(made_once(tmp_path_factory, "calm sweep", make))
    return [calm.curves(run) for run in calm.runs("tiny")["run_id"]]


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Path:
    """A folder in which `tiny.yaml` was swept."""

    def make(home: Path) -> None:
        copy_of(fresh_databases, home / ".lab")
        _sweep(home, GRID, "--workers", "1")

    return made_once(tmp_path_factory, "finished study", make)


@pytest.fixture(scope="session")
def failed_study(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Path:
    """A folder in which `tiny.yaml` was swept, with two datasets, one of which is missing."""

    def make(home: Path) -> None:
        copy_of(fresh_databases, home / ".lab")
        _sweep(home, GRID.replace("exclude:", "  dataset: [synthetic, mnist]\nexclude:"))

    return made_once(tmp_path_factory, "failed study", make)


def _sweep(home: Path, grid: str, *options: str) -> None:
    """Sweep in the folder `home`; keep the command's output."""
    (home / "tiny.yaml").write_text(grid)
    with chdir(home):
        result = Lab(home)("sweep", "tiny.yaml", *options)
    said = {"exit_code": result.exit_code, "stdout": result.stdout, "stderr": result.stderr}
    (home / "said.json").write_text(json.dumps(said))


class Swept(Lab):
    """`lab` in a folder with a swept study; `first` is the result of `lab sweep`: exit code, output, errors."""

    @property
    def first(self) -> tuple[int, str, str]:
        said = json.loads((self.home / "said.json").read_text())
        return said["exit_code"], said["stdout"], said["stderr"]


@pytest.fixture
def swept(tmp_path: Path, finished_study: Path) -> Swept:
    copy_of(finished_study, tmp_path)
    return Swept(tmp_path)


@pytest.fixture
def swept_with_failures(tmp_path: Path, failed_study: Path) -> Swept:
    copy_of(failed_study, tmp_path)
    return Swept(tmp_path)


@pytest.fixture
def bare_lab(tmp_path: Path) -> Lab:
    """`lab` in a folder where nothing has been done yet."""
    (tmp_path / "tiny.yaml").write_text(GRID)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return Lab(tmp_path)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], bool], what: str = "it") -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not happen within {PATIENCE} s")
            time.sleep(0.05)

    return wait
