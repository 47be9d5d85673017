"""Claiming a trial from studies of different sizes: it must not cost more where more cells wait."""

from __future__ import annotations

import os
import statistics
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import optuna
import sqlalchemy as sa
from optuna.distributions import FloatDistribution

from benchmarks.common import judged, show
from lab.config import TrialConfig
from lab.study import TrialQueue, open_storage

__all__ = ["run"]

_POSTGRES = (
    "LAB_BENCHMARK_POSTGRES"  # address of a database of its own, e.g. postgresql://lab@127.0.0.1/bench
)


def run(sizes: tuple[int, ...], claims: int) -> None:
    """Fill a study of each size, then claim in turns from a fresh worker's view, and print both."""
    with tempfile.TemporaryDirectory() as name:
        _measure("SQLite", lambda: f"sqlite:///{Path(name) / uuid.uuid4().hex}.db", sizes, claims)
    postgres = os.environ.get(_POSTGRES)
    if postgres:
        _measure("PostgreSQL", lambda: postgres, sizes, claims)


def _measure(database: str, address: Callable[[], str], sizes: tuple[int, ...], claims: int) -> None:
    rows: list[list[str]] = []
    studies = [(size, *_filled(address(), size)) for size in sizes]
    first, each, late = _claims(studies, claims)
    base = sizes[0]
    for size, _, _, adding in studies:
        cells = [f"{size:,}", f"{1_000 * adding / size:.1f}"]
        for times in (first, each, late):
            ratio = times[size] / times[base]
            verdict = "" if size == base else judged(ratio <= 2, "≤ 2x")
            cells += [f"{1_000 * times[size]:.1f}", f"{ratio:.2f}x", verdict]
        rows.append(cells)
    columns = ["cells", "ms to queue one"]
    for what in ("first claim", "a claim", "claim, others done"):
        columns += [f"{what}, ms", "ratio", "target"]
    show(f"Claiming from {database}", columns, rows, f"Medians of {claims} claims of each study, in turns.")


def _filled(url: str, size: int) -> tuple[str, str, float]:
    """Return the address and name of a study of `size` waiting cells, and the seconds that queueing them took."""
    name = uuid.uuid4().hex
    storage = open_storage(url)
    optuna.create_study(storage=storage, study_name=name, direction="maximize")
    queue = TrialQueue(storage, name)
    distributions = {"lr": FloatDistribution(1e-9, 1.0)}
    began = perf_counter()
    for number in range(size):
        lr = (number + 1) / 1e6
        queue.add(TrialConfig(lr=lr), f"lr={lr}", {"lr": lr}, distributions)
    return url, name, perf_counter() - began


def _claims(
    studies: list[tuple[int, str, str, float]], claims: int
) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """Return the median seconds by size of a fresh worker's first claim, its next, and one beside finished trials."""
    workers = {size: TrialQueue(open_storage(url), name) for size, url, name, _ in studies}
    first = {
        size: [_claim(TrialQueue(queue.storage, queue.name)) for _ in range(3)]
        for size, queue in workers.items()
    }
    each: dict[int, list[float]] = {size: [] for size in workers}
    for _ in range(claims):
        for size, queue in workers.items():
            each[size].append(_claim(queue))
    for queue in workers.values():
        _finish_all_but(queue, claims)
    late: dict[int, list[float]] = {size: [] for size in workers}
    for _ in range(claims):
        for size, queue in workers.items():
            late[size].append(_claim(TrialQueue(queue.storage, queue.name)))
    return _medians(first), _medians(each), _medians(late)


def _claim(queue: TrialQueue) -> float:
    began = perf_counter()
    if queue.claim() is None:
        raise RuntimeError("nothing waits")
    return perf_counter() - began


def _finish_all_but(queue: TrialQueue, left: int) -> None:
    """Finish all trials but the newest few, at once: the benchmark is not about that."""
    query = (
        "UPDATE trials SET state = 'COMPLETE' WHERE study_id = :study AND trial_id NOT IN "
        "(SELECT trial_id FROM trials WHERE study_id = :study ORDER BY trial_id DESC LIMIT :left)"
    )
    with queue.storage.engine.begin() as connection:
        connection.execute(sa.text(query), {"study": queue.study_id, "left": left})


def _medians(times: dict[int, list[float]]) -> dict[int, float]:
    return {size: statistics.median(values) for size, values in times.items()}
