"""A grid with `lab sweep`, against one `mlflow run` after another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.common import judged, show
from lab.training import cores

__all__ = ["run"]

_PROJECT = Path(__file__).parents[1]
_RATES = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02)
_ACTIVATIONS = ("relu", "gelu")
_BASE = {"dataset": "digits", "width": 16, "batch_size": 32, "epochs": 2}
_SAMPLE = 3


def run(every: bool) -> None:
    """Run the sweep and then the single runs, and print both times."""
    trials = [(activation, rate) for activation in _ACTIVATIONS for rate in _RATES]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        swept = _time(
            [sys.executable, "-m", "lab", "sweep", str(_grid_file(folder))], folder, _stores(folder)
        )
        measured = trials if every else trials[:: len(trials) // _SAMPLE][:_SAMPLE]
        store = _store_of_runs(folder)
        single = [_mlflow_run(activation, rate, folder, store) for activation, rate in measured]
    total = sum(single) * len(trials) / len(single)
    how = "all of them run" if every else f"{len(single)} of them run ({sum(single):.1f} s), and scaled up"
    rows = [
        [f"lab sweep, {cores()} workers", f"{swept:.1f}", f"{swept / len(trials):.2f}", "", ""],
        [
            "mlflow run, one after another",
            f"{total:.1f}",
            f"{total / len(trials):.2f}",
            f"{total / swept:.1f}x",
            judged(total / swept >= 5, "≥ 5x"),
        ],
    ]
    show(
        f"{len(trials)} trials of {_BASE['epochs']} epochs on digits",
        ["", "seconds", "per trial", "ratio", "target"],
        rows,
        f"Whole commands, each starting with an empty store (SQLite); `--env-manager local`: {how}.",
    )


def _grid_file(folder: Path) -> Path:
    base = ", ".join(f"{key}: {value}" for key, value in _BASE.items())
    rates, activations = ", ".join(map(str, _RATES)), ", ".join(_ACTIVATIONS)
    file = folder / "sweep.yaml"
    file.write_text(f"base: {{{base}}}\ngrid:\n  activation: [{activations}]\n  lr: [{rates}]\n")
    return file


def _mlflow_run(activation: str, rate: float, folder: Path, stores: dict[str, str]) -> float:
    values = {**_BASE, "activation": activation, "lr": rate}
    given = [part for key, value in values.items() for part in ("-P", f"{key}={value}")]
    mlflow = shutil.which("mlflow", path=_path()) or "mlflow"
    command = [mlflow, "run", str(folder / "project"), "--env-manager", "local", *given]
    return _time(command, folder, stores)


def _store_of_runs(folder: Path) -> dict[str, str]:
    """Return a separate store for the single runs, and copy the MLproject file.

    A run works in its project's folder and leaves artifacts and checkpoints there, so that must not be this checkout.
    """
    (folder / "project").mkdir()
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(_PROJECT / name, folder / "project" / name)
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/runs.db"}


def _stores(folder: Path) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def _time(command: list[str], folder: Path, variables: dict[str, str]) -> float:
    unset = {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "LAB_STORAGE"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    environment = {**inherited, "PATH": _path(), "PYTHONPATH": str(_PROJECT), **variables}
    started = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return perf_counter() - started


def _path() -> str:
    """Return a PATH on which `python` is this interpreter."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
