"""Many workers on one study in PostgreSQL: what they ask of the database, and at which number that ends.

A simulated worker is a thread that does with the database what a worker does, through its own storage and so its own
connections: it opens the study, claims a trial, sends heartbeats and looks whether it still has the trial while it
waits instead of training, notes the results, and completes it.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

import numpy as np
from optuna.distributions import FloatDistribution

from benchmarks.claim import copy_trials
from benchmarks.common import show
from benchmarks.postgres import Postgres, running_postgres
from lab.config import TrialConfig
from lab.study import TrialQueue, open_storage, open_study
from lab.study.pulse import Pulse
from lab.training import cores

__all__ = ["run"]

_STUDY = "workers"
_FACTS = 12  # attributes that a worker notes of a finished trial
_AT_ONCE = 4  # workers of one process that open the study at a time: more would only wait for its CPU
_RESERVE = 50  # connections besides the workers'


def run(fleets: Sequence[int], cells: int, rate: float, seconds: float) -> None:
    """Let fleets of workers claim as fast as they can, then drain a study of `cells`, and print both.

    Args:
        fleets: numbers of workers.
        cells: to drain.
        rate: trials per second that a fleet would end if nothing but the trials took time; a trial of n workers
            takes n / rate seconds.
        seconds: to claim for.
    """
    with running_postgres(2 * max(fleets) + _RESERVE) as server:
        _fill(server.create("filled"), cells)
        busy = [_fleet(server, f"busy{workers}", workers, 0.0, seconds) for workers in fleets]
        _show_claims(server, fleets, busy)
        drained = [_fleet(server, f"drained{workers}", workers, workers / rate) for workers in fleets]
        _show_drains(server, fleets, cells, rate, drained)


def _fill(url: str, cells: int) -> None:
    """Queue `cells` in an empty database."""
    storage = open_storage(url)
    queue, _ = open_study(storage, _STUDY, ["maximize"])
    queue.add(TrialConfig(lr=0.001), "lr=0.001", {"lr": 0.001}, {"lr": FloatDistribution(1e-9, 1.0)})
    copy_trials(queue, cells - 1)
    storage.engine.dispose()  # the database is copied, which it must not be in use for


def _show_claims(server: Postgres, fleets: Sequence[int], measured: Sequence[Measured]) -> None:
    base = measured[0].rate
    show(
        f"Trials of 0 s, as many as go, in PostgreSQL {server.version}",
        ["workers", "trials/s", "ratio", *_COMMON],
        [
            [f"{workers:,}", f"{one.rate:.1f}", f"{one.rate / base:.2f}x", *one.common()]
            for workers, one in zip(fleets, measured, strict=True)
        ],
        "CPU is per trial, with heartbeats, of the server and of the workers.",
        *_faults(fleets, measured),
    )


def _show_drains(
    server: Postgres, fleets: Sequence[int], cells: int, rate: float, measured: Sequence[Measured]
) -> None:
    ideal = cells / rate
    show(
        f"{cells:,} cells, {rate:.1f} of which should end each second, in PostgreSQL {server.version}",
        ["workers", "a trial, s", "drained, s", "ideal, s", "ratio", *_COMMON],
        [
            [
                f"{workers:,}",
                f"{workers / rate:.1f}",
                f"{one.seconds:.0f}",
                f"{ideal:.0f}",
                f"{one.seconds / ideal:.2f}x",
                *one.common(),
            ]
            for workers, one in zip(fleets, measured, strict=True)
        ],
        *_faults(fleets, measured),
    )


def _faults(fleets: Sequence[int], measured: Sequence[Measured]) -> list[str]:
    """Return what went wrong, a line each."""
    return [
        f"{workers:,} workers: {count} times {error}"
        for workers, one in zip(fleets, measured, strict=True)
        for error, count in one.report.errors.items()
    ]


@dataclass(frozen=True)
class Order:
    """What one process of simulated workers does."""

    url: str
    workers: int
    seconds: float  # of a trial
    until: float = 0.0  # seconds to go on for; until no trial waits if 0


@dataclass
class Report:
    """What the workers of one process, or of all, have seen."""

    claims: list[float] = field(default_factory=list)  # seconds each
    completed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    opened: float = 0.0  # seconds until the last worker had opened the study
    spent: float = 0.0  # CPU seconds after that
    began: float = 0.0
    ended: float = 0.0  # by the wall clock

    def add(self, other: Report) -> None:
        self.claims += other.claims
        self.completed += other.completed
        self.errors += other.errors
        self.opened = max(self.opened, other.opened)
        self.spent += other.spent
        self.began = min(self.began or other.began, other.began)
        self.ended = max(self.ended, other.ended)


def serve(order: Order, pipe: Connection) -> None:
    """Be `order.workers` workers; report to the other end of `pipe` when they are ready, and how it went."""
    report, lock = Report(), threading.Lock()
    ready, go = threading.Barrier(order.workers + 1), threading.Event()
    opening = threading.Semaphore(_AT_ONCE)

    def one() -> None:
        queue: TrialQueue | None = None
        try:
            with opening:
                queue = TrialQueue(open_storage(order.url, wait=True), _STUDY)
        except Exception as error:  # noqa: BLE001
            with lock:
                report.errors[f"opening: {type(error).__name__}: {error}"[:300]] += 1
        ready.wait()
        go.wait()
        if queue is not None:
            _work(queue, order, report, lock)

    open_storage(order.url).engine.dispose()  # imports what it needs: not from several threads at once
    threads = [threading.Thread(target=one, daemon=True) for _ in range(order.workers)]
    began = time.time()
    for thread in threads:
        thread.start()
    ready.wait()
    report.opened = time.time() - began
    pipe.send(None)
    pipe.recv()
    report.began, before = time.time(), time.process_time()
    go.set()
    for thread in threads:
        thread.join()
    report.spent, report.ended = time.process_time() - before, time.time()
    pipe.send(report)


def _work(queue: TrialQueue, order: Order, report: Report, lock: threading.Lock) -> None:
    end = time.monotonic() + order.until if order.until else float("inf")
    never = threading.Event()
    try:
        while time.monotonic() < end:
            began = time.perf_counter()
            claim = queue.claim()
            took = time.perf_counter() - began
            if claim is None:
                return
            with lock:
                report.claims.append(took)
            if order.seconds:
                with Pulse(queue, claim.trial_id) as pulse:
                    never.wait(order.seconds)
                    pulse.hold.confirm(anew=True)
            for number in range(_FACTS):
                queue.note_trial(claim.trial_id, f"fact{number}", 0.5)
            queue.complete(claim.trial_id, 0.5)
            with lock:
                report.completed += 1
    except Exception as error:  # noqa: BLE001  # counted: the benchmark says what breaks
        with lock:
            report.errors[f"{type(error).__name__}: {error}"[:150]] += 1


@dataclass(frozen=True)
class Measured:
    """What a fleet of workers did, and what the server had to do for it."""

    report: Report
    connections: int  # at most, of all workers
    server: float  # CPU seconds of PostgreSQL, while they worked

    @property
    def seconds(self) -> float:
        return self.report.ended - self.report.began

    @property
    def rate(self) -> float:
        """Trials per second."""
        return self.report.completed / self.seconds

    def common(self) -> list[str]:
        """Return the cells of a table under `_COMMON`."""
        claims = 1_000 * np.asarray(self.report.claims or [np.nan])
        trials = max(self.report.completed, 1)
        return [
            f"{np.median(claims):.0f}",
            f"{np.percentile(claims, 99):.0f}",
            f"{self.report.opened:.1f}",
            str(self.connections),
            f"{1_000 * self.server / trials:.1f}",
            f"{1_000 * self.report.spent / trials:.1f}",
        ]


_COMMON = (
    "claim, ms",
    "99 %, ms",
    "all open, s",
    "sessions",
    "server, CPU ms",
    "worker, CPU ms",
)


def _fleet(server: Postgres, database: str, workers: int, seconds: float, until: float = 0.0) -> Measured:
    """Let `workers` loose on a copy of the prepared study, in as many processes as keep the cores busy."""
    url = server.create(database, "filled")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.workers"])
    processes = min(workers, 2 * cores())
    shares = [workers // processes + (number < workers % processes) for number in range(processes)]
    pipes: list[Connection] = []
    for share in shares:
        here, there = context.Pipe()
        context.Process(target=serve, args=(Order(url, share, seconds, until), there), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()
    before = server.cpu_seconds()
    for pipe in pipes:
        pipe.send(None)
    total, most, left = Report(), 0, list(pipes)
    while left:
        most = max(most, server.connections(database))
        for pipe in wait(left, timeout=0.5):
            assert isinstance(pipe, Connection)
            total.add(pipe.recv())
            left.remove(pipe)
    return Measured(total, most, server.cpu_seconds() - before)
