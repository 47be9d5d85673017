"""What a user waits for besides training: a sweep's start and end, and the commands that only look."""

from __future__ import annotations

import compileall
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import time

from benchmarks.common import judged, show

__all__ = ["run"]

_PROJECT = Path(__file__).parents[1]
_GRID = """name: ends
base: {dataset: digits, width: 16, batch_size: 32, epochs: 2}
grid: {activation: [relu, gelu], lr: [0.001, 0.003, 0.01, 0.02]}
"""
_WORKERS = 2
# Seconds that are aimed at. The keys of the second are commands.
_SWEEP_AIMS = {
    "prompt to the first trial's start": 2.5,
    "a worker's first trial, less what its others take": 0.8,
    "last trial's end to prompt": 0.6,
}
_COMMAND_AIMS = {
    "lab status": 0.8,
    "lab status ends": 0.8,
    "lab check ends.yaml": 1.0,
    "lab plan ends.yaml": 1.2,
    "lab best ends": 1.2,
}
_TRIALS = """
SELECT trials.datetime_start, trials.datetime_complete, attributes.value_json
FROM trials JOIN trial_user_attributes AS attributes USING (trial_id)
WHERE attributes.key = 'lab:worker' AND trials.state = 'COMPLETE' ORDER BY trials.datetime_start
"""


@dataclass(frozen=True)
class _Trial:
    """When a trial was claimed and when it was complete, in seconds since 1970, and which worker had it."""

    start: float
    end: float
    worker: str


def run(rounds: int) -> None:
    """Sweep a small grid in a new folder and look at it, `rounds` times; print each wait beside its aim."""
    compileall.compile_dir(_PROJECT / "lab", quiet=1)  # as pip does, even if PYTHONDONTWRITEBYTECODE is set
    waits: dict[str, list[tuple[float, float]]] = {}  # seconds by the clock, and of CPU
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, wait in _waits(Path(folder)):
                waits.setdefault(name, []).append(wait)
    aims = _SWEEP_AIMS | _COMMAND_AIMS
    show(
        "What a user waits for besides training",
        ["", "seconds", "range", "CPU seconds", "aim"],
        [_row(name, measured, aims[name]) for name, measured in waits.items()],
        f"Medians of {rounds} rounds: a sweep of 8 trials of 2 epochs on digits with {_WORKERS} workers and new "
        "stores, SQLite, and then commands that look at it. CPU is of whole commands.",
    )


def _row(name: str, measured: Sequence[tuple[float, float]], aim: float) -> list[str]:
    clock, cpu = zip(*measured, strict=True)
    median = statistics.median(clock)
    used = f"{statistics.median(cpu):.2f}" if any(cpu) else ""
    span = f"{min(clock):.2f}–{max(clock):.2f}"
    return [name, f"{median:.2f}", span, used, judged(median <= aim, f"≤ {aim} s")]


def _waits(folder: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    (folder / "ends.yaml").write_text(_GRID)
    began = time()
    _lab(folder, "sweep", "ends.yaml", "--workers", str(_WORKERS))
    ended = time()
    trials = _trials(folder / ".lab" / "optuna.db")
    first, later = _first_and_later(trials)
    waits = (
        trials[0].start - began,
        statistics.mean(first) - statistics.median(later),
        ended - max(trial.end for trial in trials),
    )
    yield from ((name, (wait, 0.0)) for name, wait in zip(_SWEEP_AIMS, waits, strict=True))
    for command in _COMMAND_AIMS:
        yield command, _lab(folder, *command.split()[1:])


def _first_and_later(trials: Sequence[_Trial]) -> tuple[list[float], list[float]]:
    """Return how long workers' first trials took, and how long the others."""
    seen: set[str] = set()
    first, later = [], []
    for trial in trials:
        (later if trial.worker in seen else first).append(trial.end - trial.start)
        seen.add(trial.worker)
    return first, later


def _trials(database: Path) -> list[_Trial]:
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute(_TRIALS).fetchall()
    return [_Trial(_seconds(start), _seconds(end), worker) for start, end, worker in rows]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _lab(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run a command of lab; return its seconds by the clock, and of CPU.

    Raises:
        RuntimeError: it failed.
    """
    # as on most machines, the first of the commands keeps lab's bytecode for the others
    unset = {"MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "LAB_STORAGE", "PYTHONDONTWRITEBYTECODE"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    said = folder / "said.txt"  # no pipe: the server that workers are forked from would hold it open
    with said.open("w") as stream:
        before, began = os.times(), time()
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            cwd=folder,
            env={**inherited, "PYTHONPATH": os.environ.get("PYTHONPATH", str(_PROJECT))},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
        seconds, after = time() - began, os.times()
    if done.returncode:
        raise RuntimeError(f"lab {' '.join(arguments)} failed:\n{said.read_text()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu
