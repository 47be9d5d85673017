"""The progress of a study as its database shows it, whoever trains it and wherever."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from lab.engines.progress import Progress, Running, host_elsewhere
from lab.errors import LabError
from lab.stopping import Stop
from lab.study import State, TrialEnded, TrialQueue, winner

__all__ = ["Recounting", "progress_of", "watch"]

_LOOK_SECONDS = 1.0
_RECOUNT_SECONDS = 5.0
# times as long as a look took pass before the next, because thousands of trials take long to read
_REST = 4
_REST_BESIDE_TRAINING = 50


def progress_of(queue: TrialQueue) -> Progress:
    """Return the progress of a study, whoever trains it; its running trials are numbered from 0, as workers are."""
    records = list(queue.newest().values())
    states, study = [record.state for record in records], queue.record()
    progress = Progress(
        queue.name,
        study.monitor,
        maximize=study.maximize,
        total=len(states),
        done=states.count(State.COMPLETE) + states.count(State.PRUNED),
        failed=states.count(State.FAILED),
        notes=study.engine_says,
    )
    best = winner(queue)
    if best is not None:
        progress.best_value, progress.best_label = best.best_value, best.label
    for record, state in zip(records, states, strict=True):
        if state is State.RUNNING:
            host = host_elsewhere(record.worker_name)
            running = Running(record.label, record.epochs or 1, record.epoch, record.last_value, host)
            progress.running[len(progress.running)] = running
        if state in (State.COMPLETE, State.PRUNED, State.FAILED):
            outcome, error = record.outcome or state, record.error or ""
            progress.ended.append(TrialEnded(record.number, record.label, outcome, record.best_value, error))
    return progress


def watch(
    queue: TrialQueue,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> Progress:
    """Watch a study until it is over, or cancelled and nothing of it is running.

    Args:
        queue: from `find_queue`.
        on_progress: called after every look.
        stop: ends the watching, and nothing else.

    Returns:
        Its progress at the end.
    """
    view, stop = _View(queue), stop or Stop()
    while True:
        began = time.monotonic()
        over = queue.is_over()  # first: what ends after this is seen by the next look
        progress = view.look()
        took = time.monotonic() - began
        on_progress(progress)
        if over or (queue.is_cancelled() and not progress.running):
            return progress
        if stop.wait(max(_LOOK_SECONDS, _REST * took)):
            return progress


class Recounting:
    """Brings the counts of a sweep's progress up to date with the study's database, now and then."""

    def __init__(self, progress: Progress, queue: TrialQueue) -> None:
        self._progress = progress
        self._queue = queue
        self._next = time.monotonic() + _RECOUNT_SECONDS

    def take_turn(self) -> None:
        """Count, if it is time to; not if the database is away: training goes on without the counts."""
        began = time.monotonic()
        if began < self._next:
            return
        with suppress(LabError):
            self._progress.recount(progress_of(self._queue))
        ended = time.monotonic()
        self._next = ended + max(_RECOUNT_SECONDS, _REST_BESIDE_TRAINING * (ended - began))


class _View:
    """What a study looks like from one look to the next."""

    def __init__(self, queue: TrialQueue) -> None:
        self._queue = queue
        self._before: set[int] | None = None  # numbers of the trials that had ended at the first look
        self._ended: dict[int, TrialEnded] = {}  # since then, in the order in which they were seen
        self._started = time.monotonic()

    def look(self) -> Progress:
        """Return the progress now; `ended` has what has ended since the first look."""
        progress = progress_of(self._queue)
        if self._before is None:
            self._before = {trial.number for trial in progress.ended}
        self._ended |= {trial.number: trial for trial in progress.ended if trial.number not in self._before}
        progress.ended, progress.started = list(self._ended.values()), self._started
        return progress
