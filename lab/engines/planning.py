"""From grid files to waiting trials: a grid, and the studies that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.config import Grid, load_needs
from lab.engines.ending import conclude
from lab.engines.stores import Stores, connected
from lab.study import Cell, Submission, check_stored_origins, feasible_cells, open_storage
from lab.study import submit as submit_cells
from lab.tracking import Tracker, prepare

__all__ = ["Planned", "check", "open_tracker", "submit"]


@dataclass(frozen=True)
class Planned:
    """A grid, and those of its cells that can be trained."""

    grid: Grid
    cells: list[Cell]


def check(grid: Grid) -> list[Planned]:
    """Return the cells of the studies that `grid` needs, in training order, and then its own; trains nothing.

    Raises:
        ConfigError: cells that cannot be trained.
    """
    return [Planned(each, feasible_cells(each)) for each in (*load_needs(grid), grid)]


def open_tracker(planned: Sequence[Planned], stores: Stores) -> Tracker:
    """Prepare and connect the tracking store, and check the stored models that cells start from."""
    prepare(stores.tracking_uri)
    tracker = connected(stores)
    for each in planned:
        needed = [other.grid for other in planned[:-1]]
        check_stored_origins((cell.config for cell in each.cells), needed, tracker)
    return tracker


def submit(
    grid: Grid,
    stores: Stores | None = None,
    *,
    on_queued: Callable[[int, int], None] = lambda done, total: None,
) -> list[Submission]:
    """Queue the cells of `grid`, and of the studies that it needs, that their studies lack; train nothing.

    Args:
        grid: from `load_grid`.
        stores: where studies and runs are kept.
        on_queued: called while cells are queued, with how many are and how many will be.

    Returns:
        What was queued of each needed study, in training order, and then of `grid`.

    Raises:
        ConfigError: cells that cannot be trained; nothing was queued.
        LabError: a store cannot be used, or a study is cancelled.
    """
    stores = stores or Stores()
    planned = check(grid)
    tracker = open_tracker(planned, stores)
    storage = open_storage(stores.storage)
    submissions = []
    for each in planned:
        submission = submit_cells(each.grid, each.cells, storage, tracker, on_queued)
        if submission.queue.is_over():  # all of it was trained before: no worker would end its run
            conclude(submission.queue, submission.run, tracker, "done")
        submissions.append(submission)
    tracker.flush()
    return submissions
