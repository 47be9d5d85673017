"""What a worker reports to the process that started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "EpochEnded",
    "Event",
    "TrialEnded",
    "TrialStarted",
    "WorkerDied",
    "WorkerFailed",
    "event_from",
    "event_values",
]


@dataclass(frozen=True)
class TrialStarted:
    """A trial was claimed by the process called `worker`; it trains for at most `epochs`."""

    number: int
    label: str
    epochs: int
    worker: str = ""


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
    """A worker died in the middle of a trial, which is requeued; reported by the process that started the worker.

    A launcher says so of a worker whose engine has started it again. It need not know the trial, and says whether what
    was trained is `blameless`: see `Exited`.
    """

    number: int
    label: str
    why: str
    blameless: bool = False


Event = TrialStarted | EpochEnded | TrialEnded | WorkerFailed | WorkerDied

_KINDS = {kind.__name__: kind for kind in (TrialStarted, EpochEnded, TrialEnded, WorkerFailed, WorkerDied)}


def event_values(event: Event) -> dict[str, Any]:
    """Return an event as plain values, for `event_from` in another process."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from(values: Mapping[str, Any]) -> Event:
    """Return the event that `event_values` made `values` of.

    Raises:
        ValueError: there is no such event, or it has other fields.
    """
    fields = dict(values)
    kind = _KINDS.get(str(fields.pop("event", "")))
    if kind is None:
        raise ValueError(f"{values} is no event of a worker")
    try:
        event: Event = kind(**fields)
    except TypeError as error:
        raise ValueError(f"{values} is no event of a worker: {error}") from None
    return event
