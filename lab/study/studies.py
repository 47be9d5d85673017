"""The studies of a database: which of them are lab's, and which of these have trials that may start."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import optuna
import sqlalchemy as sa

from lab.errors import StudyError
from lab.study.faults import DatabaseError
from lab.study.keys import IDENTIFYING_KEYS, StudyKey, is_lab_study, noted
from lab.study.opening import open_storage
from lab.study.queue import TrialQueue
from lab.study.storage import PatientStorage

__all__ = ["Studies", "StudyNames", "names_in", "not_labs", "open_study", "study_names_in"]

_MARKS = sa.text(
    "SELECT s.study_id, s.study_name, a.key, a.value_json FROM studies s "
    "LEFT JOIN study_user_attributes a ON a.study_id = s.study_id AND a.key IN :keys"
).bindparams(sa.bindparam("keys", IDENTIFYING_KEYS, expanding=True))
_FORMAT = 1  # of what lab notes in a study, for later versions
_LEFT_EARLY = {StudyKey.OBJECTIVES}  # all that an earlier version may have set before it was killed


class StudyNames(NamedTuple):
    """The studies in a database by name: lab's own, with their ids, and those that another program has made."""

    own: dict[str, int]
    others: list[str]


def names_in(engine: sa.Engine) -> StudyNames:
    """Return the names of the studies in a database, in order, with one query."""
    with engine.connect() as connection:
        rows = connection.execute(_MARKS).all()
    found: dict[str, dict[str, Any]] = {}
    ids: dict[str, int] = {}
    for identity, name, key, value in rows:
        ids[name] = identity
        attributes = found.setdefault(name, {})
        if key is not None:
            attributes[key] = None
            with suppress(json.JSONDecodeError):
                attributes[key] = json.loads(value)
    own = {name for name, attributes in found.items() if is_lab_study(name, attributes)}
    return StudyNames({name: ids[name] for name in sorted(own)}, sorted(found.keys() - own))


def study_names_in(storage: PatientStorage) -> StudyNames:
    """Return the names of the studies in an opened database, in order."""
    return storage.patiently(lambda: names_in(storage.engine))


def open_study(
    storage: PatientStorage, name: str, directions: Sequence[Literal["maximize", "minimize"]]
) -> tuple[TrialQueue, list[str]]:
    """Create the study called `name`, or open it if it is lab's; return its queue and the direction of each objective.

    Raises:
        StudyError: another program has created a study of this name.
    """
    study = optuna.create_study(
        storage=storage, study_name=name, directions=list(directions), load_if_exists=True
    )
    attributes = study.user_attrs
    if noted(StudyKey.MARK) not in attributes:
        # a study without any trial or attribute was left by a planner that was killed at this point
        empty = not attributes.keys() - _LEFT_EARLY and not study.get_trials(deepcopy=False)
        if not empty and not is_lab_study(name, attributes):
            raise StudyError(not_labs(name))
        study.set_user_attr(noted(StudyKey.MARK), _FORMAT)
    return TrialQueue(storage, name), [direction.name.lower() for direction in study.directions]


def not_labs(name: str) -> str:
    """Return the message that the study called `name` is another program's, and what to do."""
    return (
        f"The study '{name}' is not lab's: another program created it with Optuna. Its values can mean anything, "
        "so lab leaves it alone. Give a grid file another `name`, or name another database with --storage"
    )


class Studies:
    """Lab's studies in the database at `url`: those called `names`, or all if none is named.

    Database failures raise `StudyError`; the next call may succeed. Methods wait for a database that is unreachable,
    unless `should_stop`. A study that cannot be read does not keep others from being worked on.

    Args:
        url: of the database.
        names: of the only studies.
        should_stop: True ends the waiting for a database that is unreachable.
        on_broken: called with the name of a study that cannot be read, and the error.
    """

    def __init__(
        self,
        url: str,
        names: Sequence[str] = (),
        should_stop: Callable[[], bool] = lambda: False,
        on_broken: Callable[[str, Exception], None] = lambda name, error: None,
    ) -> None:
        self._url = url
        self._names = names
        self._on_broken = on_broken
        self._storage = open_storage(url, should_stop=should_stop)
        self._queues: dict[str, TrialQueue] = {}

    def queues(self) -> list[TrialQueue]:
        """Return the queue of each study."""
        return [queue for name, queue in self._everything().items() if not self._names or name in self._names]

    def ready(self) -> list[TrialQueue]:
        """Return the studies with trials that may start: not cancelled, and the studies that they need are done."""
        return [queue for queue in self.queues() if self._guarded(queue, self._is_ready)]

    def _is_ready(self, queue: TrialQueue) -> bool:
        if not queue.waits() or queue.is_cancelled():
            return False
        fault = queue.record().fault
        if fault:
            raise StudyError(fault)
        return not self._missing(queue)

    def _guarded(self, queue: TrialQueue, ask: Callable[[TrialQueue], bool]) -> bool:
        try:
            return ask(queue)
        except DatabaseError:  # and so of all studies
            raise
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one study, the others are worked on
            self._on_broken(queue.name, error)
            return False

    def _everything(self) -> Mapping[str, TrialQueue]:
        found = study_names_in(self._storage).own
        # a study that was deleted and created again is another study
        known = {queue.study_id: queue for queue in self._queues.values()}
        self._queues = {
            name: known.get(identity) or TrialQueue(self._storage, name) for name, identity in found.items()
        }
        return self._queues

    def _missing(self, queue: TrialQueue) -> list[str]:
        """Return the names of the studies that `queue` needs and that are not done."""
        return [name for name in queue.record().needs if not _is_done(self._queues.get(name))]


def _is_done(queue: TrialQueue | None) -> bool:
    return queue is not None and queue.is_over() and not queue.held_back()
