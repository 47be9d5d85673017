"""The cells that a study has of an image folder, compared with what the folder holds now.

A cell is identified by the digest of its images. Cells of earlier versions of lab have no digest and are identified by
the spelling of their `data_dir`. One that was trained on the images that are there now is recognised, and stays the
cell that it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from optuna.trial import TrialState

from lab import registry
from lab.config import TrialConfig, parse_config, weights_file
from lab.data import check_data, clear_cache, data_root, data_settings, identified, load_data
from lab.errors import ConfigError, DataError, OtherDataError, StudyError, TrackingError
from lab.models import with_digest
from lab.study.keys import StudyKey
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord
from lab.tracking import RunStatus, Tracker

__all__ = ["Earlier", "end_stale", "keep_to_files", "searched_files"]


#: The settings that choose what is read from a folder, besides a plug-in's own; an image folder leaves no choice.
_COLUMNS = ("csv_file", "path_column", "image_column", "label_column", "split_column", "group_column")


class Earlier:
    """The cells of a study whose data is the files of a folder.

    Args:
        queue: of the study.
        newest: trial of each of its cells, from `newest_of`.
        tracker: connects to the store of its runs; only called if there are cells of earlier versions.

    Attributes:
        unverified: number of recognised cells whose images are no longer known.
    """

    def __init__(
        self, queue: TrialQueue, newest: Mapping[str, TrialRecord], tracker: Callable[[], Tracker]
    ) -> None:
        self.unverified = 0
        self._queue = queue
        self._tracker = tracker
        self._newest = newest
        self._pinned: dict[str, str] = dict(queue.record().data_digests)

    def recognise(self, config: TrialConfig) -> tuple[TrialConfig, bool]:
        """Return the config under which the study may have this cell, and whether it has it only of other images.

        Args:
            config: from `lab.data.identifier`.
        """
        if config.data_digest is None or config.cell_hash in self._newest:
            return config, False
        alike = self._alike.get(_apart(config), [])
        for record, known in alike:
            if known.data_digest is None and self._is_of(config, record, known):
                return known, False
        stale = any(
            record.run_id is not None and _folder(known) == _folder(config) for record, known in alike
        )
        return config, stale

    def pin(self) -> None:
        """Note in the study the images of the recognised cells, so that a later change is noticed."""
        clear_cache()
        if self._pinned != self._queue.record().data_digests:
            self._queue.note(StudyKey.DATA_DIGESTS, self._pinned)

    @cached_property
    def _alike(self) -> dict[str, list[tuple[TrialRecord, TrialConfig]]]:
        """The cells by everything but their images."""
        found: dict[str, list[tuple[TrialRecord, TrialConfig]]] = {}
        for record in self._newest.values():
            config = _config(record)
            if config is not None:
                found.setdefault(_apart(config), []).append((record, config))
        return found

    def _is_of(self, config: TrialConfig, record: TrialRecord, known: TrialConfig) -> bool:
        """Return whether a cell of an earlier version, `known`, is of the images that `config` is of."""
        cell, run_id = known.cell_hash, record.run_id
        if cell in self._pinned:
            return self._pinned[cell] == config.data_digest
        same = _was_trained_on(config, self._tracker, run_id) if run_id else None
        if same is None and _folder(known) == _folder(config):
            self.unverified += run_id is not None
            same = True
        if same and run_id and config.data_digest:
            self._pinned[cell] = config.data_digest
        return bool(same)


def _was_trained_on(config: TrialConfig, tracker: Callable[[], Tracker], run_id: str) -> bool | None:
    """Return whether a run recorded the pixels that `config` gives now; None if that cannot be known."""
    try:
        recorded = {digest for name, digest in tracker().dataset_digests(run_id) if name == config.dataset}
    except TrackingError:  # unreachable, or the run was deleted
        return None
    try:
        return recorded == {load_data(config).digest} if recorded else None
    except DataError:
        return False


def end_stale(queue: TrialQueue, records: Iterable[TrialRecord], tracker: Tracker) -> int:
    """End those of a study's trials that wait or were interrupted and whose images or file of weights are others now.

    Returns how many.
    """
    ended = 0
    others: dict[tuple[object, ...], bool] = {}
    for record in records:
        if record.trial.state.is_finished():
            continue
        running, run_id = record.trial.state is TrialState.RUNNING, record.run_id
        changed = "" if running and not record.is_dead else _changed(record, tracker, others)
        if changed:
            queue.void(record, f"its {changed} have changed since it was planned")
            if running and run_id is not None:
                tracker.attach(run_id).end(RunStatus.KILLED)
            ended += 1
    return ended


def keep_to_files(queue: TrialQueue, configs: Iterable[TrialConfig]) -> None:
    """Note the images and weights of a search: its sampler learns from all trials, so they must all have the same.

    Raises:
        StudyError: some have changed since its first trial.
    """
    images: dict[str, str] = {}
    weights: dict[str, str] = {}
    for config in configs:
        if config.data_digest:
            images[_spelt(config)] = config.data_digest
        file = weights_file(config)
        if file and config.weights_digest:
            weights[file] = config.weights_digest
    record = queue.record()
    _keep_to(queue, StudyKey.SEARCHED_IMAGES, "images", record.searched_images, images)
    _keep_to(queue, StudyKey.SEARCHED_WEIGHTS, "weights", record.searched_weights, weights)


def _keep_to(
    queue: TrialQueue, key: str, what: str, known: Mapping[str, str], found: Mapping[str, str]
) -> None:
    changed = [name for name in found.keys() & known.keys() if found[name] != known[name]]
    if changed and any(record.run_id is not None for record in queue.records()):
        raise StudyError(
            f"The {what} have changed since the search '{queue.name}' began, and its trials can only be compared with"
            f" the same {what}. Give the file another `name`, or restore the {what}"
        )
    if found:
        queue.note(key, {**known, **found})


def searched_files(queue: TrialQueue, config: TrialConfig) -> TrialConfig:
    """Return the config of a search's trial with the digests of its images and weights: those of the search.

    Raises:
        OtherDataError: this machine has others.
        DataError: this machine has none.
    """
    record = queue.record()
    planned = {
        "data_digest": record.searched_images.get(_spelt(config)),
        "weights_digest": record.searched_weights.get(weights_file(config) or ""),
    }
    known = {name: digest for name, digest in planned.items() if digest}
    return with_digest(identified(config.model_copy(update=known)))


def _spelt(config: TrialConfig) -> str:
    own = registry.datasets[config.dataset].parameters
    columns = {name: getattr(config, name) for name in (*_COLUMNS, *own) if getattr(config, name) is not None}
    return json.dumps([config.dataset, config.data_dir, config.classes, *([columns] if columns else [])])


def _changed(record: TrialRecord, tracker: Tracker, others: dict[tuple[object, ...], bool]) -> str:
    """Return what of a trial has changed on disk: `images`, `weights`, or nothing; `others` is what is known so far."""
    config = _config(record)
    if config is not None:
        key = (*data_settings(config), config.data_digest or record.run_id)
        if key not in others:
            others[key] = _are_others_there(config, tracker, record.run_id)
        if others[key]:
            return "images"
    return "weights" if _has_other_weights(record) else ""


def _has_other_weights(record: TrialRecord) -> bool:
    values = record.config
    if values is None or not values.get("weights_digest"):
        return False
    try:
        with_digest(parse_config(values))
    except OtherDataError:
        return True
    except (ConfigError, DataError):  # not here; a worker on another machine may have them
        return False
    return False


def _are_others_there(config: TrialConfig, tracker: Tracker, run_id: str | None) -> bool:
    if config.data_digest is None:
        return run_id is not None and _was_trained_on(config, lambda: tracker, run_id) is False
    try:
        check_data(config)
    except OtherDataError:
        return True
    except DataError:  # not here; a worker on another machine may have them
        return False
    return False


def _config(record: TrialRecord) -> TrialConfig | None:
    """Return the config of a trial whose data is the files of a folder, None for any other."""
    values = record.config
    dataset = None if values is None else values.get("dataset")
    if values is None or not isinstance(dataset, str) or dataset not in registry.datasets:
        return None
    try:
        return parse_config(values) if "data_dir" in registry.datasets[dataset].options else None
    except ConfigError:
        return None


def _apart(config: TrialConfig) -> str:
    """Return what identifies a cell apart from its images."""
    return config.model_copy(update={"data_dir": None, "csv_file": None, "data_digest": None}).cell_hash


def _folder(config: TrialConfig) -> str:
    try:
        return os.path.realpath(data_root(config))
    except DataError:  # of another machine; no folder here can have such a name
        return str(config.data_dir)
