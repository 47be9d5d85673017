"""The progress of a sweep: counts, which worker trains what, the best so far, the time left."""

from __future__ import annotations

import math
import socket
import time
from dataclasses import dataclass, field

from lab.identity import ProcessName
from lab.study import EpochEnded, Event, TrialEnded, TrialStarted, WorkerDied
from lab.training import Outcome

__all__ = ["Progress", "Running", "host_elsewhere"]


@dataclass
class Running:
    """A trial that a worker is training; `value` is its newest monitored metric, `host` where it runs if elsewhere."""

    label: str
    epochs: int
    epoch: int = 0
    value: float | None = None
    host: str = ""
    started: float = field(default_factory=time.monotonic)


@dataclass
class Progress:
    """The progress of a sweep, kept up to date by `take`."""

    study: str
    monitor: str
    maximize: bool
    total: int
    done: int = 0
    failed: int = 0
    elsewhere: int = 0  # trials that others train, as far as is known
    stopping: bool = False
    running: dict[int, Running] = field(default_factory=dict)  # by worker
    best_value: float | None = None
    best_label: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: list[TrialEnded] = field(default_factory=list)  # during this sweep, in order
    notes: list[str] = field(default_factory=list)  # what the engine says about its workers, a line each
    _pruned: set[str] = field(default_factory=set)  # labels
    _counted: frozenset[int] = frozenset()  # numbers of trials that have ended, which `recount` knew

    @property
    def waiting(self) -> int:
        """The number of trials that have neither ended nor a worker."""
        return max(0, self.total - self.done - self.failed - len(self.running) - self.elsewhere)

    def take(self, worker: int | None, event: Event) -> None:
        """Take in what a worker has said, or what is known of a trial that no worker has (None)."""
        running = None if worker is None else self.running.get(worker)
        if isinstance(event, TrialStarted) and worker is not None:
            self.running[worker] = Running(event.label, event.epochs, host=host_elsewhere(event.worker))
            if event.label in self._pruned:  # its pruner lets it go on
                self._pruned.remove(event.label)
                self.done -= 1
        elif isinstance(event, EpochEnded) and running is not None:
            running.epoch = event.epoch
            running.value = event.metrics.get(self.monitor, running.value)
        elif isinstance(event, TrialEnded | WorkerDied) and worker is not None:
            self.running.pop(worker, None)
        if isinstance(event, TrialEnded):
            self._count(event)

    def recount(self, study: Progress) -> None:
        """Take over the counts of the study's database: others may train, queue and stop its trials too."""
        self.total = max(self.total, study.total)  # this sweep may not have queued all its cells yet
        self.done, self.failed = study.done, study.failed
        self.elsewhere = max(0, len(study.running) - len(self.running))
        self._counted = frozenset(trial.number for trial in study.ended)
        self._pruned = {trial.label for trial in study.ended if trial.outcome == Outcome.PRUNED}
        self.improve(study.best_label, study.best_value)

    def improve(self, label: str, value: float | None) -> None:
        """Note `value` as the best if it is."""
        sign = 1 if self.maximize else -1
        best = -math.inf if self.best_value is None else sign * self.best_value
        if value is not None and sign * value > best:
            self.best_value, self.best_label = value, label

    def seconds_left(self) -> float | None:
        """Return how long the remaining trials will take at the pace so far; None before the first is done.

        The end of a trial, in which it is evaluated and stored, counts as one more epoch.
        """
        finished = sum(event.outcome != Outcome.KILLED for event in self.ended)
        if not finished:
            return None
        pace = (time.monotonic() - self.started) / finished
        begun = sum(trial.epoch / (trial.epochs + 1) for trial in self.running.values())
        return pace * max(0.0, self.waiting + len(self.running) - begun)

    def _count(self, event: TrialEnded) -> None:
        self.ended.append(event)
        if event.outcome == Outcome.KILLED or event.number in self._counted:
            return
        if event.outcome == Outcome.FAILED:
            self.failed += 1
        else:
            self.done += 1
            if event.outcome == Outcome.PRUNED:
                self._pruned.add(event.label)
            self.improve(event.label, event.value)


def host_elsewhere(worker: str | None) -> str:
    """Return the host of a worker, by its name, if it is another machine than this."""
    name = ProcessName.parse(worker or "")
    return "" if name is None or name.host == socket.gethostname() else name.host
