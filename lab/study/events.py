"""What a worker tells the process that started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EpochEnded", "Event", "TrialEnded", "TrialStarted", "WorkerDied", "WorkerFailed"]


@dataclass(frozen=True)
class TrialStarted:
    """A trial was claimed; `epochs` is the maximum number that it will train."""

    number: int
    label: str
    epochs: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch (1-based) of a trial was logged."""

    number: int
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrialEnded:
    """A trial ended. If it failed or was stopped, `value` is None and `error` says why."""

    number: int
    label: str
    outcome: str
    value: float | None = None
    error: str = ""


@dataclass(frozen=True)
class WorkerFailed:
    """A worker cannot continue; its trial was returned to the queue."""

    error: str


@dataclass(frozen=True)
class WorkerDied:
    """A worker exited in the middle of a trial, which will be requeued; sent by the process that started the worker."""

    number: int
    label: str
    why: str


Event = TrialStarted | EpochEnded | TrialEnded | WorkerFailed | WorkerDied
