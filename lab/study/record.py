"""What lab notes in Optuna's studies and trials: each key spelt once, and nothing read that lab would not have written.

Other programs use the same databases, and give their studies and trials attributes of any name and form. Lab's have a
prefix of their own. Those that earlier versions wrote without it are read where a study or a trial is lab's by its
form; a value of another form counts as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from optuna.trial import FrozenTrial

__all__ = ["MARK", "OWN_TRIAL", "StudyKeys", "TrialRecord", "is_lab_study", "noted", "study_attributes"]

_PREFIX: Final = "lab:"
#: The attribute of every study that lab has planned.
MARK: Final = f"{_PREFIX}study"
_WORKER = re.compile(r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d)")
_RUN = re.compile(r"[0-9a-f]{32}|pending-.+")
_SLOT = re.compile(r"slot-\d{1,9}")
_HASH_LENGTH = 16

#: SQL that is true of lab's own trials `t`: what `TrialRecord.is_own` says, as far as a database can.
OWN_TRIAL: Final = (
    "EXISTS (SELECT 1 FROM trial_user_attributes own WHERE own.trial_id = t.trial_id"
    f" AND own.key IN ('{_PREFIX}cell', 'cell')"
    f" AND (own.value_json LIKE '\"slot-%' OR LENGTH(own.value_json) = {_HASH_LENGTH + 2}))"
)

_STUDY_FORMS: Final[Mapping[str, tuple[type, ...]]] = {
    "cancelled": (bool,),
    "concluded": (bool,),
    "data_digests": (dict,),
    "ended": (dict,),
    "experiment": (str,),
    "max_retries": (int,),
    "maximize": (bool,),
    "monitor": (str,),
    "needs": (list,),
    "objectives": (list,),
    "planned": (list,),
    "run_id": (str,),
    "search": (dict,),
    "searched_images": (dict,),
}


class StudyKeys:
    """The attributes by which a study is told to be lab's, as a database keeps them."""

    OLD: Final = ("experiment", "run_id", "monitor")  # which every earlier version has set
    ALL: Final = (MARK, *OLD)


def noted(key: str) -> str:
    """Return the name of lab's attribute `key` in a database."""
    return _PREFIX + key


def is_lab_study(name: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether lab has planned the study called `name`: it has lab's mark, or is one of an earlier version.

    Those have an experiment of the study's name, the id of the study's run, and the metric that it compares by.
    """
    if MARK in attributes:
        return True
    experiment, run_id, monitor = (attributes.get(key) for key in StudyKeys.OLD)
    return (
        experiment == name
        and isinstance(monitor, str)
        and isinstance(run_id, str)
        and bool(_RUN.fullmatch(run_id))
    )


def study_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return lab's own attributes of a lab study by their keys; those of another form are not there."""
    found = {key: attributes.get(noted(key), attributes.get(key)) for key in _STUDY_FORMS}
    return {key: value for key, value in found.items() if _is(value, _STUDY_FORMS[key])}


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


class TrialRecord:
    """What lab has noted of a trial; of another program's trial nothing."""

    def __init__(self, trial: FrozenTrial) -> None:
        self.number = trial.number
        self._attributes = trial.user_attrs
        self._is_old = noted("cell") not in trial.user_attrs

    def __contains__(self, key: str) -> bool:
        return noted(key) in self._attributes or (self._is_old and key in self._attributes)

    @property
    def is_own(self) -> bool:
        """Whether lab has queued the trial: it has a cell, or a slot of a search."""
        cell = self._text("cell")
        if self._is_old and self._text("label") is None:
            return False
        return cell is not None and (len(cell) == _HASH_LENGTH or bool(_SLOT.fullmatch(cell)))

    @property
    def is_slot(self) -> bool:
        """Whether the trial is a slot of a search, and not a grid's cell."""
        return bool(_SLOT.fullmatch(self.cell))

    @property
    def is_readable(self) -> bool:
        """Whether it is known what to train in it, or that a search has to choose it."""
        return self.config is not None or (self.is_slot and "config" not in self)

    @property
    def cell(self) -> str:
        """The hash of its cell, or the name of its slot."""
        return self._text("cell") or ""

    @property
    def slot(self) -> int:
        """The number of its slot."""
        return int(self.cell.removeprefix("slot-"))

    @property
    def label(self) -> str:
        """What it is called; its number where it has no name."""
        return self._text("label") or str(self.number)

    @property
    def config(self) -> dict[str, Any] | None:
        """The values of its config that are not defaults."""
        return self._mapping("config")

    @property
    def epochs(self) -> int | None:
        """How many epochs its config asks for, where it says so."""
        found: Any = (self.config or {}).get("epochs")
        return int(found) if _is(found, (int,)) and found > 0 else None

    @property
    def run_id(self) -> str | None:
        """The id of its run."""
        return self._text("run_id")

    @property
    def has_worker(self) -> bool:
        """Whether a worker has said that the trial is its own."""
        return self._value("worker") is not None

    @property
    def worker(self) -> tuple[str, int, str] | None:
        """Host, process id and start of its worker; None where it has none, or one of another form."""
        found = _WORKER.fullmatch(self.worker_name)
        return None if found is None else (found["host"], int(found["pid"]), found["created"])

    @property
    def worker_name(self) -> str:
        """Its worker, to be shown."""
        return self._text("worker") or ""

    @property
    def retries(self) -> int:
        """How often it was queued again since it was first tried, or since somebody asked for another try."""
        found = self._value("retries")
        return found if _is(found, (int,)) and found > 0 else 0

    @property
    def was_put_back(self) -> bool:
        """Whether a worker has had it before and given it back."""
        return self._value("put_back") is True

    @property
    def earlier_error(self) -> str:
        """Why an earlier attempt failed."""
        return self._text("earlier_error") or ""

    @property
    def enqueued(self) -> dict[str, Any] | None:
        """The point that a slot is to try."""
        return self._mapping("enqueued")

    @property
    def outcome(self) -> str:
        """How it ended, nothing where it has not."""
        return self._text("outcome") or ""

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return self._text("error")

    @property
    def is_void(self) -> bool:
        """Whether it was given up before training, and counts for nothing."""
        return "void" in self

    @property
    def best_value(self) -> float | None:
        """Its best value of the monitored metric."""
        found = self._value("best_value")
        return float(found) if _is(found, (int, float)) else None

    @property
    def params(self) -> int | None:
        """How many parameters its model has."""
        found = self._value("params")
        return int(found) if _is(found, (int, float)) else None

    def kept(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of `keys` that it has, with their values."""
        return {key: self._value(key) for key in keys if self._value(key) is not None}

    def _value(self, key: str) -> Any:
        old = self._attributes.get(key) if self._is_old else None
        return self._attributes.get(noted(key), old)

    def _text(self, key: str) -> str | None:
        found = self._value(key)
        return found if isinstance(found, str) else None

    def _mapping(self, key: str) -> dict[str, Any] | None:
        found = self._value(key)
        return found if isinstance(found, dict) else None
