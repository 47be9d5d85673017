"""Cells that are queued while others are trained: all of them, or what there was time for."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from lab.config import parse_grid
from lab.engines.filling import Filler
from lab.errors import StudyError
from lab.study import Filling, TrialQueue, feasible_cells, open_storage, open_submission, submit
from lab.tracking import MemoryTracker

RATES = [round(0.001 * number, 3) for number in range(1, 31)]
DECAYS = [round(0.001 * number, 3) for number in range(20)]
GRID = parse_grid(
    "name: s\nbase: {dataset: synthetic, image_size: 8, width: 4, depth: 1, epochs: 1}\n"
    f"grid: {{lr: {RATES}, weight_decay: {DECAYS}}}\n",
    "s.yaml",
)
CELLS = len(RATES) * len(DECAYS)


def opened(url: str) -> Filling:
    return open_submission(GRID, feasible_cells(GRID), open_storage(url), MemoryTracker())


def await_done(filler: Filler) -> None:
    end = time.monotonic() + 60
    while not filler.is_done() and time.monotonic() < end:
        time.sleep(0.01)


def test_the_rest_is_queued_while_workers_claim(url: str) -> None:
    filling = opened(url)
    filling.take_turn()
    assert 0 < TrialQueue(open_storage(url), "s").waiting() < CELLS
    with Filler(filling) as filler:
        claim = TrialQueue(open_storage(url), "s").claim()
        await_done(filler)
    assert (filling.left, filling.submission.added, filling.submission.present) == (0, CELLS, 0)
    assert claim is not None
    assert filling.queue.waiting() == CELLS - 1
    assert len(filling.queue.newest()) == CELLS


def test_what_there_was_no_time_for_is_queued_by_the_next(url: str) -> None:
    filling = opened(url)
    filling.take_turn()
    there = CELLS - filling.left
    again = submit(GRID, feasible_cells(GRID), open_storage(url), MemoryTracker())
    assert (again.added, again.present) == (CELLS - there, there)
    with Filler(filling) as filler:  # the first goes on after all: nothing twice
        await_done(filler)
    assert (filling.submission.added, filling.submission.present) == (there, CELLS - there)
    assert len(filling.queue.trials()) == CELLS


def test_whoever_waits_for_the_cells_is_told_why_they_do_not_come(url: str) -> None:
    filling = opened(url)
    with filling.queue.storage.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE trial_params"))
    with (
        Filler(filling) as filler,
        pytest.raises(StudyError, match="cannot be used: no such table: trial_params"),
    ):
        await_done(filler)
