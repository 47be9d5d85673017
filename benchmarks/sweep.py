"""A grid of short trials with `lab sweep`, against what people use instead: `benchmarks/rivals`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.common import judged, medians, show, take_turns
from benchmarks.rivals import digits
from lab.training import cores

__all__ = ["run"]

_PROJECT = Path(__file__).parents[1]
_BASE = {
    "dataset": "digits",
    "width": digits.WIDTH,
    "batch_size": digits.BATCH_SIZE,
    "epochs": digits.EPOCHS,
}
_LAB, _CAREFUL = f"lab sweep, {cores()} workers", "careful script, Optuna and MLflow"
_SAMPLE = 3  # trials that are run with `mlflow run`
_TARGET = 1.5


def run(rounds: int, slow: bool) -> None:
    """Run lab and the careful script in turns, and once what takes minutes, if `slow`; print their times."""
    turns = take_turns({_LAB: partial(_timed, _sweep), _CAREFUL: partial(_timed, _careful)}, rounds)
    own = statistics.median(turns[_LAB])
    _, ratio, low, high = medians(turns, _LAB)[_CAREFUL]
    rows = [
        _row(_LAB, own, "", ""),
        _row(_CAREFUL, statistics.median(turns[_CAREFUL]), f"{ratio:.2f}x ({low:.2f}–{high:.2f})", _TARGET),
    ]
    if slow:
        rows += [_row(name, seconds, f"{seconds / own:.1f}x", "") for name, seconds in _slow_rivals()]
    show(
        f"{len(digits.cells())} trials of {digits.EPOCHS} epochs on digits",
        ["", "seconds", "per trial", "of lab's", "target"],
        rows,
        f"Whole commands, each starting with empty stores (SQLite); medians of {rounds} rounds in turns. Ray Tune runs "
        f"once; of `mlflow run` {_SAMPLE} trials run, and are scaled up.",
    )


def _row(name: str, seconds: float, ratio: str, target: float | str) -> list[str]:
    met = (
        judged(float(ratio.partition("x")[0]) >= target, f"≥ {target}x") if isinstance(target, float) else ""
    )
    return [name, f"{seconds:.1f}", f"{seconds / len(digits.cells()):.2f}", ratio, met]


def _slow_rivals() -> list[tuple[str, float]]:
    found = []
    if importlib.util.find_spec("ray"):
        found.append((f"Ray Tune, {cores()} cores", _timed(partial(_rival, "ray_tune"))))
    single = statistics.mean(_timed(partial(_mlflow_run, cell)) for cell in digits.cells()[::16][:_SAMPLE])
    return [*found, ("mlflow run, one after another", single * len(digits.cells()))]


def _timed(command: Callable[[Path], list[str]]) -> float:
    """Return the seconds that `command` takes in a new folder with empty stores."""
    with tempfile.TemporaryDirectory() as name:
        words = command(Path(name))
        started = perf_counter()
        _run(words, Path(name))
        return perf_counter() - started


def _sweep(folder: Path) -> list[str]:
    base = ", ".join(f"{key}: {value}" for key, value in _BASE.items())
    grid = "\n".join(f"  {key}: [{', '.join(map(str, values))}]" for key, values in digits.GRID.items())
    file = folder / "sweep.yaml"
    file.write_text(f"base: {{{base}}}\ngrid:\n{grid}\n")
    return [sys.executable, "-m", "lab", "sweep", str(file)]


def _careful(folder: Path) -> list[str]:
    return _rival("careful", folder)


def _rival(name: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.rivals.{name}", str(folder)]


def _mlflow_run(cell: dict[str, str | float], folder: Path) -> list[str]:
    """Copy the project's file: a run leaves its artifacts in its project's folder, not in this checkout."""
    (folder / "project").mkdir()
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(_PROJECT / name, folder / "project" / name)
    given = [part for key, value in {**_BASE, **cell}.items() for part in ("-P", f"{key}={value}")]
    mlflow = shutil.which("mlflow", path=_path()) or "mlflow"
    return [mlflow, "run", str(folder / "project"), "--env-manager", "local", *given]


def _run(command: list[str], folder: Path) -> None:
    # as on most machines, the first of the commands keeps lab's bytecode for the others
    unset = {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "LAB_STORAGE"} | {
        "PYTHONDONTWRITEBYTECODE"
    }
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    environment = {**inherited, **store, "PATH": _path(), "PYTHONPATH": str(_PROJECT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _path() -> str:
    """Return a PATH on which `python` is this interpreter."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
