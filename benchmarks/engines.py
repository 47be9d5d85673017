"""What a worker and a trial cost besides training on each engine: the same grid in processes, in jobs and in actors."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import medians, show, take_turns
from lab.config import parse_grid
from lab.engines import Stores, sweep
from lab.engines.launcher import Exited, Launcher
from lab.engines.node import Origin
from lab.engines.processes import ProcessLauncher
from lab.engines.seats import Seat
from lab.engines.slurm import SlurmLauncher
from lab.errors import LabError
from lab.study import Event, TrialEnded, TrialStarted, WorkerSettings

__all__ = ["run"]

_BASE = "local processes"
_GRID = """
name: engines
base: {{dataset: digits, width: 16, batch_size: 32, epochs: 2, patience: none}}
grid: {{seed: [{seeds}]}}
"""


def run(cells: int, rounds: int, workers: int) -> None:
    """Sweep the same grid on each engine that is here, in turns, and print what it took."""
    makers, missing = _engines(workers)
    heard: dict[str, list[_Listening]] = {name: [] for name in makers}
    variants = {
        name: partial(_sweep, cells, workers, make, heard[name].append) for name, make in makers.items()
    }
    whole = medians(take_turns(variants, rounds), _BASE)
    kept = {name: listened[1:] for name, listened in heard.items()}  # the first was to warm up
    trial = {name: statistics.median(one.trial() for one in ones) for name, ones in kept.items()}
    startup = {
        name: statistics.median(each for one in ones for each in one.startups())
        for name, ones in kept.items()
    }
    show(
        f"{cells} trials of 2 epochs on digits, {workers} workers",
        ["", "a worker's start, s", "a trial, s", "ratio", "sweep, s", "ratio", "in each round"],
        [
            [
                name,
                f"{startup[name]:.1f}",
                f"{trial[name]:.2f}",
                f"{trial[name] / trial[_BASE]:.2f}x",
                f"{seconds:.1f}",
                f"{ratio:.2f}x",
                f"{low:.2f}–{high:.2f}",
            ]
            for name, (seconds, ratio, low, high) in whole.items()
        ],
        "A worker starts from being asked for to its first trial; a trial is the time a worker spends on each.",
        *missing,
    )


class _Listening:
    """A launcher that notes when its workers were asked for, and when each began and ended trials."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._asked: dict[int, float] = {}
        self._began: dict[int, float] = {}  # its first trial
        self._ended: dict[int, float] = {}  # its last one
        self._trials = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._launcher, name)

    def __len__(self) -> int:
        return len(self._launcher)

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        number = self._launcher.start(settings, seat)
        self._asked[number] = time.monotonic()
        return number

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        for number, said in self._launcher.listen(timeout):
            if isinstance(said, TrialStarted):
                self._began.setdefault(number, time.monotonic())
            elif isinstance(said, TrialEnded):
                self._ended[number] = time.monotonic()
                self._trials += 1
            yield number, said

    def startups(self) -> list[float]:
        """Return the seconds that each worker took to its first trial."""
        return [began - self._asked[number] for number, began in self._began.items()]

    def trial(self) -> float:
        """Return the seconds that a trial took its worker, on average."""
        return sum(ended - self._began[number] for number, ended in self._ended.items()) / self._trials


def _sweep(
    cells: int, workers: int, make: Callable[[Path, ExitStack], Launcher], note: Callable[[_Listening], None]
) -> float:
    """Sweep the grid with fresh stores; return the seconds that took."""
    grid = parse_grid(_GRID.format(seeds=", ".join(map(str, range(cells)))), "engines.yaml")
    with tempfile.TemporaryDirectory() as name, ExitStack() as closing:
        folder, began = Path(name), time.perf_counter()
        stores = Stores(
            f"sqlite:///{folder}/optuna.db",
            f"sqlite:///{folder}/mlflow.db",
            folder / "artifacts",
            folder / "checkpoints",
            folder / "journal",
        )
        launcher = _Listening(make(folder, closing))
        sweep(grid, stores, workers=workers, launcher=launcher)
        note(launcher)
        return time.perf_counter() - began


def _engines(workers: int) -> tuple[Mapping[str, Callable[[Path, ExitStack], Launcher]], list[str]]:
    """Return what makes the launcher of each engine, and why others are left out."""
    makers: dict[str, Callable[[Path, ExitStack], Launcher]] = {
        _BASE: lambda folder, closing: ProcessLauncher(),
        "submitit, local": partial(_slurm, workers, "local"),
        "Slurm": partial(_slurm, workers, "slurm"),
        "Ray": partial(_ray, workers),
    }
    missing = []
    for name in list(makers)[1:]:
        try:
            with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
                makers[name](Path(folder), closing)
        except (LabError, OSError, subprocess.SubprocessError) as error:
            del makers[name]
            missing.append(f"{name} is left out: {error}")
    return makers, missing


def _slurm(workers: int, cluster: Any, folder: Path, closing: ExitStack) -> Launcher:
    if cluster == "slurm":
        subprocess.run(["sinfo"], check=True, capture_output=True, timeout=60)
    return SlurmLauncher(folder / "slurm", workers, {"time": 30}, Origin.here(), cluster=cluster)


def _ray(workers: int, folder: Path, closing: ExitStack) -> Launcher:
    from lab.engines.ray import RayLauncher

    launcher = RayLauncher(None, workers, num_gpus=0, origin=Origin.here())
    closing.callback(launcher.close)
    return launcher
