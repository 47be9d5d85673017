"""The keys under which lab notes things in Optuna's studies and trials, each spelt once, and whose a study is.

Other programs use the same databases and give their studies and trials attributes of any name and form. Lab's keys have
a prefix of their own. Earlier versions wrote them without it: those are read where the form of a study or a trial shows
that it is lab's. A value of another form counts as none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "DRAFT_PREFIX",
    "HASH_LENGTH",
    "IDENTIFYING_KEYS",
    "OLD_IDENTITY",
    "OWN_TRIAL",
    "StudyKey",
    "TrialKey",
    "has_form",
    "is_lab_study",
    "noted",
    "study_attributes",
]


class StudyKey:
    """Every key that lab notes something under in a study; in the database with lab's prefix (see `noted`)."""

    MARK: Final = "study"  # set in every study that lab has planned
    BEGAN: Final = (
        "began"  # when the budget's clock began: the first claim since the study was submitted or resumed
    )
    CANCELLED: Final = "cancelled"
    CODE: Final = "code"  # the plug-ins of its trials: their text, or their package and its version
    CONCLUDED: Final = "concluded"
    DATA_DIGESTS: Final = (
        "data_digests"  # by cell hash: of cells without one, the digest they turned out to have
    )
    ENGINE: Final = "engine"  # what a supervisor has said last about the engine that runs its workers
    EXHAUSTED: Final = "ended"  # what SEARCH was when the search had reached its budget or target
    EXPERIMENT: Final = "experiment"
    FORGIVEN: Final = (
        "forgiven"  # how many trials had failed when a user last submitted, resumed or retried it
    )
    GPU_MEMORY: Final = "gpu_memory"  # bytes that one trial takes
    MAXIMIZE: Final = "maximize"
    MAX_FAILURES: Final = "max_failures"
    MAX_RETRIES: Final = "max_retries"
    MONITOR: Final = "monitor"
    NEEDS: Final = "needs"  # names of the studies that must be over first
    NOTIFY: Final = "notify"  # who is told of the study: the names of their addresses, and of what
    OBJECTIVES: Final = "objectives"
    PLANNED: Final = "planned"  # hashes of the cells that were planned last
    PRIORITY: Final = "priority"
    RUN_ID: Final = "run_id"
    SEARCH: Final = "search"  # the grid file, if it is a search's
    SEARCHED_IMAGES: Final = "searched_images"  # digest of each folder that a search trains on
    SEARCHED_WEIGHTS: Final = "searched_weights"  # digest of each file of weights that a search starts from
    SECONDS: Final = "seconds"  # the budget's
    TOLD: Final = "told"  # what was told of the study, by the name of the address


class TrialKey:
    """Every key that lab notes something under in a trial, besides its metrics; in the database with lab's prefix."""

    ALONE: Final = "alone"  # it ran out of memory and gets a GPU to itself
    BEST_VALUE: Final = "best_value"
    CELL: Final = "cell"
    CONFIG: Final = "config"
    EARLIER_ERROR: Final = "earlier_error"
    ENQUEUED: Final = "enqueued"
    ERROR: Final = "error"
    GIVEN_UP: Final = "given_up"  # its worker died, and it had died too often before
    LABEL: Final = "label"
    OUTCOME: Final = "outcome"
    PARAMS: Final = "params"  # number of its model's parameters
    PROMOTED: Final = "promoted"  # the epoch of the rung at which it was pruned, before it was let go on
    PUT_BACK: Final = "put_back"
    RETRIES: Final = "retries"
    RUN_ID: Final = "run_id"
    STOPPED: Final = "stopped"  # a user has ended its cell; its worker ends it after the current epoch
    VOID: Final = "void"
    WORKER: Final = "worker"


_PREFIX: Final = "lab:"
_RUN = re.compile(r"[0-9a-f]{32}|pending-.+")
#: What the stored name of a search's draft begins with, in every version of lab; its number follows.
DRAFT_PREFIX: Final = "slot-"
#: Number of hex digits of a cell's hash.
HASH_LENGTH: Final = 16

_STUDY_FORMS: Final[Mapping[str, tuple[type, ...]]] = {
    StudyKey.BEGAN: (int, float),
    StudyKey.CANCELLED: (bool,),
    StudyKey.CODE: (list,),
    StudyKey.CONCLUDED: (bool,),
    StudyKey.DATA_DIGESTS: (dict,),
    StudyKey.ENGINE: (dict,),
    StudyKey.EXHAUSTED: (dict,),
    StudyKey.EXPERIMENT: (str,),
    StudyKey.FORGIVEN: (int,),
    StudyKey.GPU_MEMORY: (int,),
    StudyKey.MAX_FAILURES: (int,),
    StudyKey.MAX_RETRIES: (int,),
    StudyKey.MAXIMIZE: (bool,),
    StudyKey.MONITOR: (str,),
    StudyKey.NEEDS: (list,),
    StudyKey.NOTIFY: (dict,),
    StudyKey.OBJECTIVES: (list,),
    StudyKey.PLANNED: (list,),
    StudyKey.PRIORITY: (int,),
    StudyKey.RUN_ID: (str,),
    StudyKey.SEARCH: (dict,),
    StudyKey.SEARCHED_IMAGES: (dict,),
    StudyKey.SEARCHED_WEIGHTS: (dict,),
    StudyKey.SECONDS: (int, float),
    StudyKey.TOLD: (dict,),
}
#: What every earlier version notes in a study.
OLD_IDENTITY: Final = (StudyKey.EXPERIMENT, StudyKey.RUN_ID, StudyKey.MONITOR)


def noted(key: str) -> str:
    """Return the name under which a database has lab's `key`."""
    return _PREFIX + key


#: SQL that is true of lab's own trials `t`: what `TrialRecord.is_own` says, as far as a database can.
OWN_TRIAL: Final = (
    "EXISTS (SELECT 1 FROM trial_user_attributes own WHERE own.trial_id = t.trial_id"
    f" AND own.key IN ('{noted(TrialKey.CELL)}', '{TrialKey.CELL}')"
    f" AND (own.value_json LIKE '\"{DRAFT_PREFIX}%' OR LENGTH(own.value_json) = {HASH_LENGTH + 2}))"
)
#: The attributes of a study, as a database names them, that `is_lab_study` looks at.
IDENTIFYING_KEYS: Final = (noted(StudyKey.MARK), *OLD_IDENTITY)


def is_lab_study(name: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether lab has planned the study called `name`: it has lab's mark, or the form of an earlier version's.

    Those have an experiment of the study's name, the id of the study's run, and the metric that is monitored.
    """
    if noted(StudyKey.MARK) in attributes:
        return True
    experiment, run_id, monitor = (attributes.get(key) for key in OLD_IDENTITY)
    return (
        experiment == name
        and isinstance(monitor, str)
        and isinstance(run_id, str)
        and bool(_RUN.fullmatch(run_id))
    )


def study_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return lab's own attributes of a lab study by their keys; those of another form are left out."""
    found = {key: attributes.get(noted(key), attributes.get(key)) for key in _STUDY_FORMS}
    return {key: value for key, value in found.items() if has_form(value, _STUDY_FORMS[key])}


def has_form(value: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether a value is of one of these types; true and false are no numbers, and numbers are finite floats."""
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int | float) and float in kinds:
        return _is_finite(value)
    return isinstance(value, kinds)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float holds
        return False
