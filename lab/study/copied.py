"""Studies in a folder that was copied: the workers that train the original's trials do not train the copy's."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import TrialState

from lab.places import arrival, mark
from lab.study.keys import is_lab_study
from lab.study.queue import TrialQueue
from lab.study.storage import PatientStorage

__all__ = ["follow_copy"]


def follow_copy(storage: PatientStorage, database: Path) -> None:
    """If `database` was copied since it was last opened, put back its running trials, to be continued here.

    The caller holds a lock that keeps other processes from opening it.
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
