"""Tags and notes that users set on runs and studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lab.engines.ending import study_run
from lab.engines.single import find_stored
from lab.engines.stores import Stores
from lab.errors import ConfigError, Fault, TrackingError
from lab.registry import suggest
from lab.restore import can_be_run, find_study_run
from lab.study import database_exists, find_queue, study_names
from lab.tracking import Run, Tracker, connect
from lab.tracking.tags import Tag

__all__ = ["Annotated", "note", "tag"]

_RESERVED: Final = {"lab.": "lab's own", "mlflow.": "MLflow's own"}


@dataclass(frozen=True)
class Annotated:
    """The run whose tags were changed.

    Attributes:
        run_id: its id.
        experiment: that of its experiment.
        what: what it is, in words.
        lacked: the tags to remove that it did not have.
    """

    run_id: str
    experiment: str
    what: str
    lacked: tuple[str, ...] = ()


def tag(name: str, stores: Stores, tags: Mapping[str, str], removed: Sequence[str] = ()) -> Annotated:
    """Set tags of a run, or of a study's own run, and remove others.

    Args:
        name: of a study; or a run, as `lab.restore.find_run` takes it.
        stores: where it is kept.
        tags: to set.
        removed: keys of the tags to remove; one that the run does not have is no error.

    Raises:
        ConfigError: a tag is lab's or MLflow's own.
        LabError: there is no such study or run, or a store failed.
    """
    _check([*tags, *removed])
    tracker, run, found = _find(name, stores)
    run.set_tags(tags)
    if removed:
        known = tracker.tags(found.run_id)
        found = replace(found, lacked=tuple(key for key in removed if key not in known))
        run.remove_tags(removed)
    return found


def note(name: str, stores: Stores, text: str) -> Annotated:
    """Set the note of a run, or of a study's own run: MLflow's description of it, which its page shows.

    Args:
        name: of a study; or a run, as `lab.restore.find_run` takes it.
        stores: where it is kept.
        text: Markdown; an empty one removes the note.

    Raises:
        LabError: there is no such study or run, or a store failed.
    """
    _, run, found = _find(name, stores)
    if text:
        run.set_tags({Tag.NOTE: text})
    else:
        run.remove_tags([Tag.NOTE])
    return found


def _check(keys: Sequence[str]) -> None:
    faults = [
        Fault(
            f"the tag {key!r} is {whose}; choose a name that does not begin with {beginning!r}{_instead(key)}"
        )
        for key in keys
        for beginning, whose in _RESERVED.items()
        if key.lower().startswith(beginning)
    ]
    if faults:
        raise ConfigError(faults)


def _instead(key: str) -> str:
    return ", or use `lab note`" if key == Tag.NOTE else ""


def _find(name: str, stores: Stores) -> tuple[Tracker, Run, Annotated]:
    """Return a study's own run if `name` is that of a study, otherwise the run that it names; and where it is."""
    queue = find_queue(stores.storage, name)
    if queue is not None:
        # without a journal: what the store refuses is said at once
        tracker = connect(stores.tracking_uri, stores.artifact_dir)
        run, what = study_run(queue, tracker), f"study {name}"
    elif can_be_run(name):
        tracker, run_id = find_stored(name, stores)
        tracker.tags(run_id)  # raises if there is no such run
        run, what = tracker.attach(run_id), f"run {run_id}"
    else:
        tracker, run_id = _study_elsewhere(name, stores)
        run, what = tracker.attach(run_id), f"study {name}"
    return tracker, run, Annotated(run.run_id, tracker.experiment_of(run.run_id), what)


def _study_elsewhere(name: str, stores: Stores) -> tuple[Tracker, str]:
    """Return the run of a study that was imported, or whose trials are in another database."""
    if not database_exists(stores.tracking_uri):
        raise TrackingError(f"There is no study or run '{name}': {stores.tracking_uri} does not exist")
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    run_id = find_study_run(tracker, name)
    if run_id is None:
        hint = suggest(name, study_names(stores.storage)) or " `lab list` shows the studies"
        raise TrackingError(f"There is no study or run '{name}'.{hint}")
    return tracker, run_id
