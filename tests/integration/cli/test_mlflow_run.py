"""`mlflow run`: from a folder and from git, in this environment and in one that it makes; every ending."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[3]
FEW = ("-P", "dataset=digits", "-P", "epochs=1")


class MlflowRun:
    """`mlflow run` in an empty folder with its own store."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        scripts = [str(Path(sys.executable).parent), "/root/.pyenv/bin"]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([*scripts, os.environ["PATH"]]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{lab.home}/.lab/mlflow.db",
            "LAB_STORAGE": f"sqlite:///{lab.home}/.lab/optuna.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def start(self, uri: object, *args: object, local: bool = True, **env: str) -> subprocess.Popen[str]:
        manager = ["--env-manager", "local"] if local else []
        # the local manager's Python finds lab by the project's own folder, or installed; others install it
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", "run", str(uri), *manager, *map(str, args)],
            cwd=self.lab.home,
            env={**self.environment, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __call__(self, uri: object, *args: object, **options: Any) -> tuple[int, str]:
        process = self.start(uri, *args, **options)
        output, _ = process.communicate(timeout=500)
        return process.returncode, output

    @property
    def runs(self) -> pd.DataFrame:
        return self.lab.tracker.runs("0")  # type: ignore[no-any-return]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what git has of this repository, or would have: `mlflow run` leaves `.lab` where it runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("MLproject", "python_env.yaml", "constraints.txt", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, folder)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("lab", "grids"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
    return folder


@pytest.fixture
def mlflow_run(lab: Any) -> MlflowRun:
    return MlflowRun(lab)


def test_one_configuration_in_the_run_that_was_opened(mlflow_run: MlflowRun, project: Path) -> None:
    code, output = mlflow_run(
        project,
        *("-P", "lr=1e-2", "-P", "activation=leaky relu", "-P", "optimizer=adam", "-P", "depth=3"),
        *("-P", "patience=none", "-P", "data_dir=", *FEW),
        *("--run-name", "mine"),
    )
    assert code == 0, output
    (run,) = (row for _, row in mlflow_run.runs.iterrows())
    assert (run["status"], run["name"], run["tags.lab.kind"]) == ("FINISHED", "mine", "trial")
    assert (run["params.lr"], run["params.depth"], run["params.optimizer"]) == ("1e-2", "3", "adam")
    assert run["params.activation"].strip("'") == "leaky relu"
    assert run["metrics.lr"] == 0.01
    assert run["metrics.epochs"] == 1
    text = mlflow_run.lab.tracker.download(run["run_id"], "config.yaml", project).read_text()
    assert "activation: leaky_relu" in text
    assert "patience: null" in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-P", "lr=fast"), "Error: lr: must be a valid number, but got 'fast'"),
        (("-P", "actvation=gelu"), "Error: No such option '--actvation'"),
        (("-P", "dataset=mnist", "-P", "data_dir=/nowhere"), "Error: mnist is missing"),
        (("-e", "sweep", "-P", "grid=nope.yaml"), "Error: nope.yaml: no such file"),
        (("-e", "sweep", "-P", "wrokers=1"), "Error: No such option '--wrokers'"),
    ],
)
def test_a_mistake_ends_the_run_as_failed(
    mlflow_run: MlflowRun, project: Path, args: tuple[str, ...], said: str
) -> None:
    code, output = mlflow_run(project, *args)
    assert code == 1  # mlflow's own, whatever the program's is
    assert said in output
    assert output.count("Error: ") == 1
    assert "Traceback" not in output
    assert mlflow_run.runs["status"].tolist() == ["FAILED"]
    assert mlflow_run.runs["tags.lab.outcome"].tolist() == ["failed"]


def test_a_sweep(mlflow_run: MlflowRun, project: Path) -> None:
    grid = mlflow_run.lab.home / "tiny.yaml"
    code, output = mlflow_run(
        project, "-e", "sweep", "-P", f"grid={grid}", "-P", "workers=1", "-P", "set=epochs=1 batch_size=64"
    )
    assert code == 0, output
    (outer,) = (row for _, row in mlflow_run.runs.iterrows())
    (study,) = mlflow_run.lab.runs("tiny", kind="study")["run_id"]
    assert (outer["status"], outer["tags.lab.kind"], outer["tags.lab.study"]) == ("FINISHED", "sweep", "tiny")
    assert outer["tags.lab.study_run"] == study
    trials = mlflow_run.lab.runs("tiny")
    assert trials["status"].tolist() == ["FINISHED"] * 3
    assert trials["params.batch_size"].tolist() == ["64"] * 3


@pytest.mark.parametrize(
    "args",
    [
        ("-P", "dataset=digits", "-P", "epochs=10000", "-P", "patience=none"),
        ("-e", "sweep", "-P", "grid=TINY", "-P", "set=epochs=10000"),
    ],
)
def test_ctrl_c_ends_the_run(
    mlflow_run: MlflowRun, project: Path, args: tuple[str, ...], until: Callable[..., None]
) -> None:
    grid = str(mlflow_run.lab.home / "tiny.yaml")
    process = mlflow_run.start(project, *(arg.replace("TINY", grid) for arg in args))

    def trains() -> bool:
        tracker = mlflow_run.lab.tracker
        found = (tracker.find_experiment("tiny"), "0")
        frames = [tracker.runs(one, tags={"lab.kind": "trial"}) for one in found if one]
        return any(tracker.history(run, "train_loss") for frame in frames for run in frame["run_id"])

    until(trains, "an epoch")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Stopping" in output
    until(lambda: "RUNNING" not in set(mlflow_run.runs["status"]), "the end of the run")
    # 3.17 compares status names with numbers, and so writes FAILED over every status of the program's own
    assert set(mlflow_run.runs["status"]) <= {"KILLED", "FAILED"}
    assert mlflow_run.runs["tags.lab.outcome"].tolist() == ["killed"], output


@pytest.fixture
def git_url(project: Path, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An address that git clones, and the environment in which it does."""
    bare = tmp_path / "lab.git"
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (
        ("init", "--quiet", "--initial-branch=main", str(project)),
        ("-C", str(project), "add", "."),
        ("-C", str(project), *author, "commit", "--quiet", "-m", "all"),
        ("clone", "--quiet", "--bare", str(project), str(bare)),
    ):
        subprocess.run(["git", *command], check=True)
    url = "https://git.invalid/lab.git"
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{bare}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    return url, environment


def test_from_a_git_url(mlflow_run: MlflowRun, git_url: tuple[str, dict[str, str]]) -> None:
    url, environment = git_url
    code, output = mlflow_run(url, "--version", "main", *FEW, **environment)
    assert code == 0, output
    assert mlflow_run.runs["status"].tolist() == ["FINISHED"]
    assert mlflow_run.runs["tags.mlflow.source.name"].tolist() == [url]


@pytest.mark.skipif(
    shutil.which("pyenv", path=os.pathsep.join([os.environ["PATH"], "/root/.pyenv/bin"])) is None,
    reason="the default environment manager needs pyenv",
)
def test_in_an_environment_that_mlflow_makes(mlflow_run: MlflowRun, project: Path, tmp_path: Path) -> None:
    code, output = mlflow_run(
        project, *FEW, local=False, MLFLOW_ENV_ROOT=str(tmp_path / "envs"), PYTHONPATH=""
    )
    assert code == 0, output[-3000:]
    assert mlflow_run.runs["status"].tolist() == ["FINISHED"]
