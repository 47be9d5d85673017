"""What a worker reports to the process that started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EpochEnded", "Event", "TrialEnded", "TrialStarted", "WorkerDied", "WorkerFailed"]


@dataclass(frozen=True)
class TrialStarted:
    """A trial was claimed; it trains for at most `epochs`."""

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
    """A trial ended; if it failed or was stopped, `value` is None and `error` says why."""

    number: int
    label: str
    outcome: str
    value: float | None = None
    error: str = ""


@dataclass(frozen=True)
class WorkerFailed:
    """A worker cannot continue; its trial was put back."""

    error: str


@dataclass(frozen=True)
class WorkerDied:
    """A worker died in the middle of a trial, which is requeued; reported by the process that started the worker."""

    number: int
    label: str
    why: str


Event = TrialStarted | EpochEnded | TrialEnded | WorkerFailed | WorkerDied
