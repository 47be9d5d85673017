"""Stand-ins for ids that only the store can give, used while it is unreachable.

A run that was opened then has the id `pending-KEY`; once it is in the store, its tag `lab.journal` is KEY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.tracking.tags import Tag

if TYPE_CHECKING:
    from lab.tracking.base import Tracker

__all__ = ["pending_experiment", "pending_id", "pending_key", "pending_name", "run_in_store"]

_RUN = "pending-"
_EXPERIMENT = "pending-experiment:"


def pending_id(key: str) -> str:
    """Return the id of a run that the store does not know yet."""
    return _RUN + key


def pending_key(run_id: str) -> str | None:
    """Return the key of a run that the store did not know when it was opened, None for any other run's id."""
    return run_id.removeprefix(_RUN) if run_id.startswith(_RUN) else None


def pending_experiment(name: str) -> str:
    """Return what stands for the id of an experiment while the store is unreachable."""
    return _EXPERIMENT + name


def pending_name(experiment: str) -> str | None:
    """Return the name of an experiment whose id is still unknown, None for any other experiment's id."""
    return experiment.removeprefix(_EXPERIMENT) if experiment.startswith(_EXPERIMENT) else None


def run_in_store(tracker: Tracker, run_id: str) -> str | None:
    """Return the store's own id of a run, None if it is pending and not in the store."""
    key = pending_key(run_id)
    if key is None:
        return run_id
    return next(iter(tracker.find_runs(None, {Tag.JOURNAL: key})), None)
