"""The runs of the trials of all studies, and whether they may still be continued."""

from __future__ import annotations

from dataclasses import dataclass, field

from optuna.trial import TrialState

from lab.errors import StudyError
from lab.study.addresses import database_exists
from lab.study.faults import DatabaseError, reason
from lab.study.queue import TrialQueue
from lab.study.studies import Studies

__all__ = ["StudyRuns", "study_runs"]

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass
class StudyRuns:
    """The runs of the trials of all studies.

    The id of a run may be one that it was given while its store was unreachable.

    Attributes:
        studies: names of all studies.
        broken: by name, why a study cannot be read; nothing is known of its runs.
        study: by run id, the name of its study.
        done: by run id, whether its newest trial is complete or pruned. One that failed may be retried, and one that
            waits in a cancelled study is continued when that is resumed.
    """

    studies: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    study: dict[str, str] = field(default_factory=dict)
    done: dict[str, bool] = field(default_factory=dict)


def study_runs(url: str) -> StudyRuns | None:
    """Return the runs of the studies in a database, None if there is no database yet.

    Raises:
        StudyError: the database cannot be read.
    """
    if not database_exists(url):
        return None
    found = StudyRuns()
    for queue in Studies(url).queues():
        found.studies.add(queue.name)
        try:
            _note(queue, found)
        except DatabaseError:  # and so of all studies
            raise
        except (StudyError, ValueError, KeyError, TypeError) as error:
            found.broken[queue.name] = reason(error)
    return found


def _note(queue: TrialQueue, found: StudyRuns) -> None:
    # a requeued trial, which has the same run, comes after the failed one
    for record in queue.records():
        if record.run_id is not None and not record.is_void:
            found.study[record.run_id] = queue.name
            found.done[record.run_id] = record.trial.state in _DONE
