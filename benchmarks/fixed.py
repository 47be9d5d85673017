"""What a trial in a sweep costs besides its epochs, and where the time goes; and a pruned one."""

from __future__ import annotations

import functools
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any
from unittest.mock import patch

from benchmarks.common import judged, show
from lab import pictures
from lab.config import parse_grid
from lab.objective import logged
from lab.objective import trial as objective
from lab.study import (
    EpochEnded,
    Event,
    TrialEnded,
    TrialQueue,
    WorkerSettings,
    feasible_cells,
    open_storage,
    submit,
    work,
)
from lab.study.search.searcher import Searcher
from lab.tracking import connect, prepare
from lab.tracking.checkpoints import TrialCheckpoints
from lab.tracking.journaled import JournaledTracker
from lab.tracking.journaled_run import JournaledRun
from lab.training import Trainer

__all__ = ["run"]

_GRID = """
name: fixed
base: {{dataset: digits, width: 16, batch_size: 32, threads: 1}}
grid:
  lr: [{rates}]
epochs: {epochs}
"""
_SEARCH = """
name: fixed
base: {{dataset: digits, width: 16, batch_size: 32, threads: 1}}
search:
  space: {{lr: [{rates}]}}
  sampler: grid
epochs: {epochs}
"""
_REST = "everything else"
_EPOCHS, _EPOCHS_CPU = "epochs", "CPU of epochs"
# (owner, attribute, name in the table); time in nested steps counts for the innermost
_STEPS: tuple[tuple[Any, str, str], ...] = (
    (TrialQueue, "claim", "claim (Optuna)"),
    (TrialQueue, "report", "report epochs (Optuna)"),
    (TrialQueue, "note_trial", "attributes (Optuna)"),
    (TrialQueue, "note_facts", "attributes (Optuna)"),
    (TrialQueue, "complete", "tell (Optuna)"),
    (JournaledTracker, "experiment", "open the run"),
    (JournaledTracker, "open_run", "open the run"),
    (objective, "load_data", "load_data (cached)"),
    (objective, "Trainer", "build the trainer"),
    (Trainer, "_train_on", _EPOCHS),
    (Trainer, "_evaluate", _EPOCHS),
    (objective, "log_description", "describe: model summary"),
    (JournaledRun, "log_params", "params, tags, final metrics"),
    (JournaledRun, "set_tags", "params, tags, final metrics"),
    (JournaledRun, "log_dataset", "describe: dataset"),
    (JournaledRun, "log_text", "describe: config.yaml, model.txt"),
    (TrialCheckpoints, "save", "checkpoints: write"),
    (TrialCheckpoints, "finish", "checkpoints: to artifacts"),
    (JournaledRun, "log_history", "log metrics"),
    (objective, "result_of", "test"),
    (pictures, "curves", "figures: draw"),
    (logged, "log_error_analysis", "figures: draw"),
    (pictures, "log_figure", "figures: render"),
    (JournaledRun, "log_image", "figures: store"),
    (JournaledRun, "log_model", "log_model"),
    (JournaledRun, "end", "end the run"),
)


def run(trials: int, epochs: int) -> None:
    """Train the trials with a worker in this process; print what one costs beside its epochs, and the parts of that."""
    _show(
        "Fixed cost of a trial inside a sweep (ms)",
        _measured(_GRID, trials, epochs),
        "from the end of one trial to the next, less epochs",
        {"fixed": 0.12, "cpu": 0.34},
        f"digits, {epochs} epochs, SQLite for MLflow and Optuna, one worker; {trials} trials after one to warm up. "
        "The parts are of the time from one end to the next; the CPU is also that of the journal and of uploads, "
        "which go on beside the next trial.",
    )
    _show(
        "Fixed cost of a pruned trial (ms)",
        _measured_pruned(trials, epochs),
        "a pruned trial, beside its epochs",
        {"fixed": 0.05},
        "The same, but a search, each trial of which is pruned after its first epoch.",
    )


def _measured(grid: str, trials: int, epochs: int) -> _Events:
    events = _Events()
    with tempfile.TemporaryDirectory() as folder, _timed(events.parts):
        settings = _submitted(grid, Path(folder), trials + 1, epochs)
        events.begin()
        work(settings, events.take, lambda: False)
    return events


def _measured_pruned(trials: int, epochs: int) -> _Events:
    with patch.object(Searcher, "prunes", lambda searcher, trial_id: True):
        return _measured(_SEARCH, trials, epochs)


def _show(title: str, events: _Events, what: str, aims: Mapping[str, float], note: str) -> None:
    """Print a table; the first trial is left out, which pays for imports and the data."""
    rows = []
    for name, label, measured in (
        ("fixed", what, events.fixed[1:]),
        ("cpu", "CPU of all threads, less epochs", events.cpu[1:]),
    ):
        aim = aims.get(name)
        met = "" if aim is None else judged(statistics.median(measured) <= aim, f"≤ {1000 * aim:.0f} ms")
        rows.append([label, *_row(measured), met])
    parts = events.by_trial[1:]
    names = dict.fromkeys(name for trial in parts for name in trial if name != _EPOCHS)
    steps = [(statistics.median(trial[name] for trial in parts), name) for name in names]
    rows += [[f"  {name}", f"{1000 * seconds:.1f}", "", ""] for seconds, name in sorted(steps, reverse=True)]
    show(
        title,
        ["", "median", "range", "aim"],
        rows,
        f"{note} The first took {1000 * events.fixed[0]:,.0f} ms.",
    )


def _row(seconds: list[float]) -> tuple[str, str]:
    low, middle, high = (1000 * each(seconds) for each in (min, statistics.median, max))
    return f"{middle:.0f}", f"{low:.0f}–{high:.0f}"


def _submitted(text: str, folder: Path, trials: int, epochs: int) -> WorkerSettings:
    settings = WorkerSettings(
        study="fixed",
        storage=f"sqlite:///{folder}/optuna.db",
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        artifact_dir=folder / "artifacts",
        checkpoint_dir=folder / "checkpoints",
        journal_dir=folder / "journal",
    )
    prepare(settings.tracking_uri)
    rates = ", ".join(f"{0.001 * (1 + number / trials):.6f}" for number in range(trials))
    grid = parse_grid(text.format(rates=rates, epochs=epochs))
    tracker = connect(settings.tracking_uri, settings.artifact_dir)
    submit(grid, feasible_cells(grid), open_storage(settings.storage), tracker)
    return settings


class _Events:
    """Takes the worker's events; splits the time, its parts and the CPU by trial."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)  # of the current trial
        self.by_trial: list[dict[str, float]] = []
        self.fixed: list[float] = []
        self.cpu: list[float] = []
        self._epochs = 0.0
        self._since = self._cpu_since = 0.0

    def begin(self) -> None:
        self.parts.clear()
        self._since, self._cpu_since = perf_counter(), process_time()

    def take(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            self._epochs += event.metrics["epoch_seconds"]
        if isinstance(event, TrialEnded):
            if event.error:
                raise RuntimeError(event.error)
            self._end(perf_counter() - self._since - self._epochs)

    def _end(self, fixed: float) -> None:
        own = defaultdict(float, self.parts)
        self.cpu.append(process_time() - self._cpu_since - own.pop(_EPOCHS_CPU))
        own[_REST] = fixed - sum(seconds for name, seconds in own.items() if name != _EPOCHS)
        self.by_trial.append(own)
        self.fixed.append(fixed)
        self._epochs = 0.0
        self.begin()


@contextmanager
def _timed(parts: dict[str, float]) -> Iterator[None]:
    """Add the seconds spent in each of `_STEPS`, less those of the steps within it, to `parts`."""
    within: list[float] = []  # for each open step, the seconds of the steps inside it

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            within.append(0.0)
            started, spent = perf_counter(), thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                whole = perf_counter() - started
                parts[name] += whole - within.pop()
                if name == _EPOCHS:
                    parts[_EPOCHS_CPU] += thread_time() - spent
                if within:
                    within[-1] += whole

        return wrapper

    with ExitStack() as stack:
        for owner, attribute, name in _STEPS:
            stack.enter_context(patch.object(owner, attribute, timed(getattr(owner, attribute), name)))
        yield
