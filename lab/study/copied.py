"""The studies in a copied folder: its running trials are returned to the queue, as no worker trains the copies."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import TrialState

from lab.places import arrival, mark
from lab.study.queue import TrialQueue
from lab.study.record import is_lab_study
from lab.study.storage import PatientStorage

__all__ = ["follow_copy"]


def follow_copy(storage: PatientStorage, database: Path) -> None:
    """Return running trials to the queue if `database` was copied since it was last opened, to continue them here.

    Call this with a lock that keeps all other processes from opening it.
    """
    came = arrival(database)
    if came is not None and came.copied:
        for study in storage.get_all_studies():
            if is_lab_study(study.study_name, study.user_attrs):
                _put_back(TrialQueue(storage, study.study_name))
    mark(database, copied=came is not None and came.copied)


def _put_back(queue: TrialQueue) -> None:
    for record in queue.records(TrialState.RUNNING):
        queue.put_back(record.trial_id, record.worker_name)
