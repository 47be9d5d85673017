"""Queueing a grid of thousands of cells, and submitting it again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

from benchmarks.claim import databases
from benchmarks.common import judged, show
from lab.config import parse_grid
from lab.study import feasible_cells, open_storage, open_submission, submit
from lab.tracking import MemoryTracker

__all__ = ["run"]

Result = TypeVar("Result")

_FIRST, _EACH, _AGAIN = 3.0, 0.001, 3.0  # aims, in seconds


def run(cells: int) -> None:
    """Plan and queue so many cells, submit them again, and print what each took."""
    with tempfile.TemporaryDirectory() as name:
        for database, address in databases(Path(name)):
            rows = _measure(address(), cells)
            show(f"Queueing {cells:,} cells in {database}", ("", "s", "CPU s", "target"), rows)


def _measure(url: str, cells: int) -> list[list[str]]:
    """Return a row for each step; the tracking store is in memory, since it is asked no more for many cells."""
    rates = [round(1e-5 * number, 5) for number in range(1, 101)]
    decays = [round(1e-6 * number, 6) for number in range(1, cells // 100 + 1)]
    base = "base: {dataset: digits, depth: 1, epochs: 2}"
    grid = parse_grid(f"name: s\n{base}\ngrid: {{lr: {rates}, weight_decay: {decays}}}\n", "grid.yaml")
    storage, tracker = open_storage(url), MemoryTracker()

    def first() -> None:
        filling.take_turn()

    def rest() -> None:
        while filling.left:
            filling.take_turn()

    planning, checked = _timed(lambda: feasible_cells(grid))
    opening, filling = _timed(lambda: open_submission(grid, checked, storage, tracker))
    turn, _ = _timed(first)
    filled, _ = _timed(rest)
    again, _ = _timed(lambda: submit(grid, feasible_cells(grid), storage, tracker))
    ready = [sum(parts) for parts in zip(planning, opening, turn, strict=True)]
    queueing = [sum(parts) for parts in zip(turn, filled, strict=True)]
    return [
        ["cells planned", *_shown(planning), ""],
        [
            "until the first trial can be claimed",
            *_shown(ready),
            judged(ready[0] <= _FIRST, f"≤ {_FIRST:.0f} s"),
        ],
        [
            "queued",
            *_shown(queueing),
            judged(queueing[0] <= _EACH * cells, f"≤ {1_000 * _EACH:.0f} ms a cell"),
        ],
        ["planned and submitted again", *_shown(again), judged(again[0] <= _AGAIN, f"≤ {_AGAIN:.0f} s")],
    ]


def _timed(do: Callable[[], Result]) -> tuple[tuple[float, float], Result]:
    began, worked = perf_counter(), process_time()
    result = do()
    return (perf_counter() - began, process_time() - worked), result


def _shown(times: tuple[float, ...] | list[float]) -> list[str]:
    return [f"{seconds:.2f}" for seconds in times]
