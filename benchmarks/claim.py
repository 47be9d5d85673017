"""Claiming a trial from studies of different sizes: it must not cost more when more cells are waiting."""

from __future__ import annotations

import os
import statistics
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import sqlalchemy as sa
from optuna.distributions import FloatDistribution

from benchmarks.common import judged, show
from lab.config import TrialConfig
from lab.study import TrialQueue, open_storage, open_study

__all__ = ["copy_trials", "databases", "run"]

_POSTGRES = (
    "LAB_BENCHMARK_POSTGRES"  # address of a database for this purpose, e.g. postgresql://lab@127.0.0.1/bench
)
_FIRST = "JOIN trials f ON f.trial_id = a.trial_id WHERE t.study_id = :study AND f.study_id = :study AND f.number = 0"
_COPIES = (
    "INSERT INTO trials (number, study_id, state) WITH RECURSIVE count(n) AS "
    "(SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < :last) "
    "SELECT n, study_id, state FROM count, trials WHERE study_id = :study AND number = 0",
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
    f"SELECT t.trial_id, a.key, a.value_json FROM trials t, trial_user_attributes a {_FIRST} AND t.number > 0",
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
    "SELECT t.trial_id, a.param_name, a.param_value, a.distribution_json "
    f"FROM trials t, trial_params a {_FIRST} AND t.number > 0",
)


def run(sizes: tuple[int, ...], claims: int) -> None:
    """Fill a study of each size, then claim from them in turns, as a fresh worker does, and print both times."""
    with tempfile.TemporaryDirectory() as name:
        for database, address in databases(Path(name)):
            _measure(database, address, sizes, claims)


def databases(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each kind of database, and a function that returns the address of one; SQLite's are fresh."""
    yield "SQLite", lambda: f"sqlite:///{folder / uuid.uuid4().hex}.db"
    postgres = os.environ.get(_POSTGRES)
    if postgres:
        yield "PostgreSQL", lambda: postgres


def _measure(database: str, address: Callable[[], str], sizes: tuple[int, ...], claims: int) -> None:
    rows: list[list[str]] = []
    studies = [(size, *_filled(address(), size, claims)) for size in sizes]
    first, each, late = _claims(studies, claims)
    base = sizes[0]
    for size, _, _, adding in studies:
        cells = [f"{size:,}", f"{1_000 * adding:.1f}"]
        for times in (first, each, late):
            ratio = times[size] / times[base]
            verdict = "" if size == base else judged(ratio <= 2, "≤ 2x")
            cells += [f"{1_000 * times[size]:.1f}", f"{ratio:.2f}x", verdict]
        rows.append(cells)
    columns = ["cells", "queue one, ms"]
    for what in ("first claim", "a claim", "claim, others done"):
        columns += [f"{what}, ms", "ratio", "target"]
    show(f"Claiming from {database}", columns, rows, f"Medians of {claims} claims from each study, in turns.")


def _filled(url: str, size: int, claims: int) -> tuple[str, str, float]:
    """Return the address and name of a study of `size` waiting cells, and the median seconds to queue one more.

    All but the last few are copies of the first, made by the database, because queueing one by one takes minutes.
    """
    name = uuid.uuid4().hex
    storage = open_storage(url)
    queue, _ = open_study(storage, name, ["maximize"])
    _add(queue, 0)
    copy_trials(queue, size - claims - 1)
    return url, name, statistics.median(_add(queue, number) for number in range(1, claims + 1))


def copy_trials(queue: TrialQueue, count: int) -> None:
    """Let the database make copies of a study's only trial, because queueing one by one takes minutes."""
    with queue.storage.engine.begin() as connection:
        for query in _COPIES:
            connection.execute(sa.text(query), {"study": queue.study_id, "last": count})


def _add(queue: TrialQueue, number: int) -> float:
    lr = (number + 1) / 1e6
    config = TrialConfig(lr=lr)
    began = perf_counter()
    queue.add(config, f"lr={lr}", {"lr": lr}, {"lr": FloatDistribution(1e-9, 1.0)})
    return perf_counter() - began


def _claims(
    studies: list[tuple[int, str, str, float]], claims: int
) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """Return median seconds by size: a fresh worker's first claim, its next ones, and one among finished trials."""
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
        raise RuntimeError("no trial is waiting")
    return perf_counter() - began


def _finish_all_but(queue: TrialQueue, left: int) -> None:
    """Finish all trials but the newest few in one statement: the benchmark does not measure that."""
    query = (
        "UPDATE trials SET state = 'COMPLETE' WHERE study_id = :study AND trial_id NOT IN "
        "(SELECT trial_id FROM trials WHERE study_id = :study ORDER BY trial_id DESC LIMIT :left)"
    )
    with queue.storage.engine.begin() as connection:
        connection.execute(sa.text(query), {"study": queue.study_id, "left": left})


def _medians(times: dict[int, list[float]]) -> dict[int, float]:
    return {size: statistics.median(values) for size, values in times.items()}
