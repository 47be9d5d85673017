"""The states of cells, in a module of their own: a plan names them without Optuna."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["State"]


class State(StrEnum):
    """The state of a cell, which is that of its newest trial; `TrialRecord.state` derives it."""

    NEW = "new"  # the study has no trial of it
    STALE = "stale"  # the study has one, of images that have changed since
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # its worker died, and it will be continued
    CANCELLED = "cancelled"  # it waits, and its study was cancelled
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    DELETED = "deleted"  # it has ended, and its run was deleted
