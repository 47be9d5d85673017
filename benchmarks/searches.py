"""Claiming a trial of a search beside more and more finished ones: what lab does must not take longer."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import uuid
from pathlib import Path
from time import perf_counter, process_time

import sqlalchemy as sa

from benchmarks.claim import copy_trials, databases
from benchmarks.common import judged, show
from lab.config import Grid, parse_grid
from lab.study import SAMPLERS, TrialQueue, feasible_cells, open_storage, submit
from lab.study.search.searcher import StudySearch
from lab.tracking import MemoryTracker

__all__ = ["run"]

_SAMPLERS = ("random", "qmc", "tpe", "nsga2", "cmaes", "gp")
_AIM = 0.015  # seconds of a claim, with the sampler that has nothing to work out
_MOST_OF_GP = 1_000  # trials: its cost rises with their cube
_SPREAD = (
    "INSERT INTO trial_values (trial_id, objective, value, value_type) SELECT t.trial_id, 0, "
    "(t.number * 7919 % 1000) / 2000.0, 'FINITE' FROM trials t WHERE t.study_id = :study AND t.number > 0",
    "UPDATE trial_params SET param_value = 0.001 + 0.0001 * (SELECT t.number * 31 % 990 FROM trials t "
    "WHERE t.trial_id = trial_params.trial_id) WHERE param_name = 'lr'",
    "UPDATE trial_user_attributes SET value_json = (SELECT '\"slot-' || t.number || '\"' FROM trials t "
    "WHERE t.trial_id = trial_user_attributes.trial_id) WHERE key = 'lab:cell'",
)


def run(sizes: tuple[int, ...], claims: int) -> None:
    """Measure claims beside so many finished trials with each sampler, and print the median."""
    with tempfile.TemporaryDirectory() as name:
        for database, address in databases(Path(name)):
            rows = [
                _row(sampler, address(), sizes, claims) for sampler in _SAMPLERS if _is_installed(sampler)
            ]
            columns = [
                "sampler",
                *(f"{size:,} finished, ms (CPU)" for size in sizes),
                "first claim, ms",
                "target",
            ]
            notes = (
                f"Medians of {claims} claims of a worker that has claimed before; with a target and a budget of epochs",
                "What a sampler takes more than `random`, which works out nothing, is its own; the first claim is a "
                "fresh worker's, beside the most trials.",
            )
            show(f"Claiming a search's trials from {database}", columns, rows, *notes)


def _is_installed(sampler: str) -> bool:
    package = SAMPLERS[sampler].package
    return not package or importlib.util.find_spec(package) is not None


def _row(sampler: str, url: str, sizes: tuple[int, ...], claims: int) -> list[str]:
    cells, slowest, first = [], 0.0, 0.0
    for size in sizes:
        if sampler == "gp" and size > _MOST_OF_GP:
            cells.append("")
            continue
        first, seconds, cpu = _measure(sampler, url, size, claims)
        slowest = max(slowest, seconds)
        cells.append(f"{1_000 * seconds:.1f} ({1_000 * cpu:.1f})")
    verdict = judged(slowest <= _AIM, f"≤ {1_000 * _AIM:.0f} ms") if sampler == "random" else ""
    return [sampler, *cells, f"{1_000 * first:.0f}", verdict]


def _measure(sampler: str, url: str, size: int, claims: int) -> tuple[float, float, float]:
    """Return the seconds of a worker's first claim, and the median ones of its next: by the clock, and of CPU."""
    queue = _searched(sampler, url, size, claims + 2)
    search = StudySearch(queue)
    times = [_claim(queue, search) for _ in range(claims + 1)]
    return times[0][0], *(statistics.median(column) for column in zip(*times[1:], strict=True))


def _claim(queue: TrialQueue, search: StudySearch) -> tuple[float, float]:
    """Claim a trial as a worker does, and complete it; return what the claim took, by the clock and of CPU."""
    began, worked = perf_counter(), process_time()
    claim = None if search.is_exhausted() else queue.claim(search.prepare)
    took = perf_counter() - began, process_time() - worked
    if claim is None:
        raise RuntimeError("no trial is waiting")
    queue.complete(claim.trial_id, 0.5)
    return took


def _searched(sampler: str, url: str, finished: int, waiting: int) -> TrialQueue:
    """Return a search with so many finished trials, copies of one that the database makes, and waiting ones."""
    name = uuid.uuid4().hex
    storage, tracker = open_storage(url), MemoryTracker()

    def queued(trials: int) -> TrialQueue:
        grid = _grid(name, sampler, trials)
        return submit(grid, feasible_cells(grid), storage, tracker).queue

    queue = queued(1)
    _claim(queue, StudySearch(queue))
    copy_trials(queue, finished - 1)
    with storage.engine.begin() as connection:
        for query in _SPREAD:
            connection.execute(sa.text(query), {"study": queue.study_id})
    return queued(finished + waiting)


def _grid(name: str, sampler: str, trials: int) -> Grid:
    space = "{lr: {low: 0.001, high: 0.1}, weight_decay: {low: 0.0, high: 0.01}}"
    return parse_grid(
        f"name: '{name}'\nbase: {{dataset: digits, depth: 1, epochs: 2}}\n"
        f"search: {{sampler: {sampler}, target: 0.99, space: {space}}}\n"
        f"budget: {{trials: {trials}, epochs: 1000000}}\n",
        "search.yaml",
    )
