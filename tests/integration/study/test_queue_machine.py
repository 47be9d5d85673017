"""Claiming, dying, re-queueing, failing, cancelling and growing in any order: no cell is lost, none trained twice."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from lab.config import Grid, parse_grid
from lab.errors import StudyError
from lab.study import (
    Cell,
    TrialQueue,
    feasible_cells,
    open_storage,
    requeue_dead,
    requeue_failed,
    requeue_interrupted,
    submit,
)
from lab.study.queue import Claim
from lab.tracking import MemoryTracker

MOST_CELLS = 5
WORKERS = st.integers(0, 2)
GONE = f"{socket.gethostname()}:{os.getpid()}:0.00"  # a process with this one's id, of another time
OPEN = (TrialState.WAITING, TrialState.RUNNING)


@cache
def planned(cells: int) -> tuple[Grid, list[Cell]]:
    rates = ", ".join(str((number + 1) / 1000) for number in range(cells))
    grid = parse_grid(
        f"name: machine\nbase: {{dataset: synthetic, image_size: 8}}\ngrid: {{lr: [{rates}]}}\n"
    )
    return grid, feasible_cells(grid)


class QueueMachine(RuleBasedStateMachine):
    """Workers of one study, each with a queue of its own, and what they hold."""

    fresh: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.fresh / "optuna.db", self.folder)
        self.storage = open_storage(f"sqlite:///{self.folder / 'optuna.db'}")
        self.tracker = MemoryTracker()
        self.size = 0
        self.held: dict[int, Claim] = {}
        self.gone: list[Claim] = []  # of workers thought dead, which may only be slow
        self.workers: list[TrialQueue] = []

    @initialize(cells=st.integers(1, 3))
    def begin(self, cells: int) -> None:
        self.size = cells
        grid, found = planned(cells)
        self.queue = submit(grid, found, self.storage, self.tracker).queue
        self.workers = [TrialQueue(self.storage, grid.name) for _ in range(3)]

    @rule(cells=st.integers(1, MOST_CELLS))
    def plan(self, cells: int) -> None:
        """Grow the grid, or submit it again, or a smaller one: what is there stays."""
        grid, found = planned(cells)
        if self.queue.is_cancelled():
            with pytest.raises(StudyError, match="was cancelled"):
                submit(grid, found, self.storage, self.tracker)
            return
        submission = submit(grid, found, self.storage, self.tracker)
        assert submission.added + submission.present == cells
        self.size = max(self.size, cells)

    @rule(worker=WORKERS)
    def claim(self, worker: int) -> None:
        if worker in self.held:
            return
        waiting = self.queue.trials(TrialState.WAITING)
        claim = self.workers[worker].claim()
        assert (claim is not None) == (bool(waiting) and not self.queue.is_cancelled())
        if claim is not None:
            self.held[worker] = claim

    @rule(worker=WORKERS, epoch=st.integers(1, 3))
    def beat_and_report(self, worker: int, epoch: int) -> None:
        if worker in self.held:
            self.queue.beat(self.held[worker].trial_id)
            self.queue.report(self.held[worker].trial_id, epoch, 0.5)
            self.queue.note_trial(self.held[worker].trial_id, "run_id", self.held[worker].label)
            assert self.queue.is_mine(self.held[worker].trial_id)

    @rule(worker=WORKERS)
    def complete(self, worker: int) -> None:
        if worker in self.held:
            trial_id = self.held.pop(worker).trial_id
            self.queue.note_trial(trial_id, "outcome", "completed")
            self.queue.complete(trial_id, 0.5)

    @rule(worker=WORKERS)
    def fail(self, worker: int) -> None:
        if worker in self.held:
            trial_id = self.held.pop(worker).trial_id
            self.queue.note_trial(trial_id, "outcome", "failed")
            self.queue.fail(trial_id)

    @rule(worker=WORKERS)
    def put_back(self, worker: int) -> None:
        if worker in self.held:
            self.queue.put_back(self.held.pop(worker).trial_id)

    @rule(worker=WORKERS)
    def die(self, worker: int) -> None:
        if worker in self.held:
            claim = self.held.pop(worker)
            self.queue.note_trial(claim.trial_id, "worker", GONE)
            self.gone.append(claim)

    @rule(worker=WORKERS)
    def die_with_whoever_finds_out(self, worker: int) -> None:
        """Fail a trial as one who re-queues it does, and die before its successor is queued."""
        if worker in self.held:
            claim = self.held.pop(worker)
            self.queue.note_trial(claim.trial_id, "worker", GONE)
            self.queue.fail(claim.trial_id)
            self.gone.append(claim)

    @rule(by=WORKERS)
    def requeue_dead(self, by: int) -> None:
        given_up = requeue_dead(self.workers[by])
        assert all(record.retries == self.queue.record().max_retries for record in given_up)

    @precondition(lambda self: self.gone)
    @rule(completes=st.booleans())
    def come_back_late(self, completes: bool) -> None:
        """Let a worker that was thought dead tell how its trial ended: only if nobody was told otherwise."""
        claim = self.gone.pop()
        before = self.state_of(claim)
        if completes:
            with suppress(UpdateFinishedTrialError):
                self.queue.complete(claim.trial_id, 0.25)
        else:
            self.queue.put_back(claim.trial_id, worker=GONE)
        after = self.state_of(claim)
        if before is TrialState.RUNNING:
            assert after is (TrialState.COMPLETE if completes else TrialState.WAITING)
        else:
            assert after is before

    @rule()
    def requeue_failed(self) -> None:
        failed = [one for one in self.queue.newest().values() if one.trial.state is TrialState.FAIL]
        assert requeue_failed(self.queue) == len(failed)

    @rule()
    def requeue_interrupted(self) -> None:
        requeue_interrupted(self.queue)

    @rule(cancelled=st.booleans())
    def cancel_or_resume(self, cancelled: bool) -> None:
        self.queue.note("cancelled", cancelled)

    @invariant()
    def every_cell_is_there_once(self) -> None:
        by_cell: dict[str, list[FrozenTrial]] = defaultdict(list)
        for trial in self.queue.trials() if self.workers else []:
            by_cell[trial.user_attrs["lab:cell"]].append(trial)
        assert by_cell.keys() == {cell.hash for cell in planned(self.size)[1]} if self.workers else True
        for trials in by_cell.values():
            *earlier, newest = trials
            assert all(trial.state is TrialState.FAIL for trial in earlier)
            assert newest.state in (*OPEN, TrialState.COMPLETE, TrialState.FAIL)
            assert all(
                trial.user_attrs.get("lab:retries", 0) <= self.queue.record().max_retries for trial in trials
            )

    @invariant()
    def nothing_is_held_twice(self) -> None:
        held = Counter(claim.trial_id for claim in self.held.values())
        assert all(count == 1 for count in held.values())
        assert all(self.state_of(claim) is TrialState.RUNNING for claim in self.held.values())

    def state_of(self, claim: Claim) -> TrialState:
        return self.storage.get_trial(claim.trial_id).state

    def teardown(self) -> None:
        try:
            if self.workers:
                self.work_everything_off()
        finally:
            self.storage.engine.dispose()
            shutil.rmtree(self.folder)

    def work_everything_off(self) -> None:
        """Resume the study and train all that is left: each cell is done once, or failed and told so."""
        self.queue.note("cancelled", False)
        for worker in list(self.held):
            self.complete(worker)
        requeue_dead(self.queue)
        requeue_interrupted(self.queue)
        while claim := self.queue.claim():
            self.queue.complete(claim.trial_id, 0.5)
        assert self.queue.is_over()
        self.every_cell_is_there_once()
        for record in self.queue.newest().values():
            told = record.outcome or record.retries == self.queue.record().max_retries
            assert record.state == "complete" or (record.state == "failed" and told)


@pytest.fixture(scope="module", autouse=True)
def _fresh(fresh_databases: Path) -> None:
    QueueMachine.fresh = fresh_databases


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
