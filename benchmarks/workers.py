"""Many workers on one study in PostgreSQL: what they ask of the database, and at which number that ends.

A simulated worker is a thread that does with the database what a worker does, through its own storage and so its own
connections: it opens the study, claims a trial, sends heartbeats and looks whether it still has the trial while it
waits instead of training, and completes it.
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil
import sqlalchemy as sa
from optuna.distributions import FloatDistribution

from benchmarks.claim import copy_trials
from benchmarks.common import show
from benchmarks.postgres import Postgres, running_postgres
from lab.config import TrialConfig
from lab.errors import LabError
from lab.study import TrialQueue, open_storage, open_study
from lab.study.pulse import Pulse
from lab.study.record import TrialKey
from lab.training import cores

__all__ = ["run"]

_STUDY = "workers"
_FACTS = 12  # attributes that a worker notes of a finished trial


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

    def one() -> None:
        queue: TrialQueue | None = None
        try:
            queue = TrialQueue(open_storage(order.url, wait=True), _STUDY)
        except LabError as error:
            with lock:
                report.errors[f"opening: {error}"[:150]] += 1
        ready.wait()
        go.wait()
        if queue is not None:
            _work(queue, order, report, lock)

    threads = [threading.Thread(target=one) for _ in range(order.workers)]
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
