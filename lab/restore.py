"""Trained models of earlier runs: found by a name, and read back from the runs' artifacts."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lab.config import TrialConfig, load_config
from lab.data import INTAKE, DataInfo, Intake, describe
from lab.errors import ConfigError, DataError, TrackingError
from lab.registry import nearest, suggest
from lab.tracking import RunStatus, Tracker, pending_key
from lab.tracking.planned import read_planned
from lab.tracking.tags import Tag, keeps_files
from lab.training import CorruptCheckpoint, Outcome, load_checkpoint, rank

__all__ = [
    "Saved",
    "can_be_run",
    "find_run",
    "find_study_run",
    "missing",
    "restore",
    "restore_config",
    "stored_intake",
    "trained_on",
    "whole_id",
]

_ORIGINS = ("models:/", "best:", "runs:/")
_ID = re.compile(r"[0-9a-f]{32}")
_BEGINNING = re.compile(r"[0-9a-f]{1,31}")  # a whole id has 32 digits
_MOST_CANDIDATES = 10


@dataclass(frozen=True)
class Saved:
    """The trained model of a run: its config, and the best weights as a state dict on the CPU."""

    run_id: str
    config: TrialConfig
    weights: dict[str, Tensor]


def can_be_run(name: str) -> bool:
    """Whether `name` looks like one that `find_run` takes, whether or not there is such a run."""
    beginning = name.rstrip("….").lower()
    return (
        name.startswith(_ORIGINS)
        or pending_key(name) is not None
        or bool(_ID.fullmatch(name) or _BEGINNING.fullmatch(beginning))
    )


def find_run(tracker: Tracker, origin: str, *, for_grid: bool = False) -> str:
    """Return the id of the run that `origin` names.

    Args:
        tracker: where the runs are.
        origin: a run's id or its beginning, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or `best:STUDY`.
        for_grid: whether trials of a grid file are to start from the run: its `needs` can provide a missing study.

    Raises:
        TrackingError: there is no such model, the study has no finished trial, it can be no name of a run, or the
            beginning of an id fits no run or several.
    """
    if origin.startswith("models:/"):
        return tracker.model_run(origin)
    if origin.startswith("best:"):
        return _best_run(tracker, origin.removeprefix("best:"), for_grid=for_grid)
    run_id = whole_id(tracker, origin)
    if not can_be_run(run_id):
        raise _no_run(tracker, run_id)
    return run_id


def find_study_run(tracker: Tracker, study: str) -> str | None:
    """Return the id of the run that stands for a study, trained or imported; None if there is no such study."""
    experiment = tracker.find_experiment(study)
    found = [] if experiment is None else tracker.find_runs(experiment, _tags(study, "study"))
    return found[0] if found else None


def whole_id(tracker: Tracker, origin: str) -> str:
    """Return the whole id if `origin` is the beginning of the id of a trial's run, or `origin` unchanged.

    Args:
        tracker: where the runs are.
        origin: as for `find_run`; a run may also be given as `runs:/ID` or `runs:/ID/model`.

    Raises:
        TrackingError: no id, or more than one, begins like this.
    """
    if origin.startswith(("models:/", "best:")):
        return origin
    run_id = origin.removeprefix("runs:/").partition("/")[0]
    beginning = run_id.rstrip("….").lower()
    if not _BEGINNING.fullmatch(beginning):
        return run_id
    found = [known for known in tracker.find_runs(None, {Tag.KIND: "trial"}) if known.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found and find_study_run(tracker, run_id) is not None:
        raise _no_run(tracker, run_id)
    if not found:
        raise TrackingError(f"No trial at {tracker.uri} has a run id that begins with {beginning}")
    candidates = ", ".join(sorted(found)[:_MOST_CANDIDATES])
    more = f" and {len(found) - _MOST_CANDIDATES:,} more" if len(found) > _MOST_CANDIDATES else ""
    raise TrackingError(
        f"The ids of {len(found):,} runs begin with {beginning}; give more characters of one: {candidates}{more}"
    )


def restore(tracker: Tracker, run_id: str, overrides: Mapping[str, Any] | None = None) -> Saved:
    """Return the trained model of a run; `overrides` are as for `restore_config`.

    Raises:
        TrackingError: there is no such run, it is not a trial of lab, or it did not keep its weights.
        ConfigError: as `restore_config`.
    """
    config = restore_config(tracker, run_id, overrides)
    with _artifact(tracker, run_id, "checkpoints/best.pt") as file:
        try:
            weights = load_checkpoint(file, unverified=True)  # earlier versions wrote no checksums
        except CorruptCheckpoint as error:
            raise TrackingError(f"The weights of run {run_id} cannot be read: {error}") from None
    return Saved(run_id, config, weights)


def restore_config(tracker: Tracker, run_id: str, overrides: Mapping[str, Any] | None = None) -> TrialConfig:
    """Return the config that a run was started with.

    Args:
        tracker: where the run is.
        run_id: its whole id.
        overrides: settings with which to continue it, such as the device; none that would make it another trial.

    Raises:
        TrackingError: there is no such run, or it is not a trial of lab.
        ConfigError: `overrides` are invalid, or make it another trial.
    """
    with _artifact(tracker, run_id, "config.yaml") as file:
        _check_is_trial(tracker, run_id)
        try:
            config = load_config(file, own=False)
        except ConfigError as error:
            raise TrackingError(f"The config.yaml of run {run_id} cannot be read: {error}") from None
        changed = load_config(file, overrides, own=False) if overrides else config
    if changed.cell_hash != config.cell_hash:
        raise ConfigError("A run is continued with its own settings; start a new run to change them")
    return changed


def stored_intake(tracker: Tracker, run_id: str) -> Intake | None:
    """Return how pictures become the input of a run's model; None if an early version of lab trained it.

    Raises:
        TrackingError: there is no such run, or what it stored cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, INTAKE, Path(folder))
        try:
            return None if file is None else Intake.from_json(file.read_text())
        except DataError as error:
            raise TrackingError(f"The {INTAKE} of run {run_id} {error}") from None


def trained_on(tracker: Tracker, run_id: str, config: TrialConfig) -> DataInfo:
    """Return the shape and the classes of the images that a run with `config` was trained on.

    They are stored with the run; of one of an early version of lab, they are those of its data now.

    Raises:
        LabError: what the run stored cannot be read, or it stored nothing and its data is not there.
    """
    intake = stored_intake(tracker, run_id)
    return describe(config) if intake is None else DataInfo(intake.shape, intake.classes)


def _check_is_trial(tracker: Tracker, run_id: str) -> None:
    kind = None if pending_key(run_id) else tracker.tags(run_id).get(Tag.KIND)
    if kind not in (None, "trial"):
        raise TrackingError(f"Run {run_id} is not a trial: its tag {Tag.KIND} is {kind}")


@contextmanager
def _artifact(tracker: Tracker, run_id: str, path: str) -> Iterator[Path]:
    """Yield a copy of an artifact that every finished trial has; raise the error from `missing` if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, path, Path(folder))
        if file is None:
            raise missing(tracker, run_id, path)
        yield file


def missing(tracker: Tracker, run_id: str, path: str) -> TrackingError:
    """Return an error that says why a run lacks the artifact `path`, which lab stores with every finished trial."""
    if pending_key(run_id) is None:
        place, tags = tracker.places(run_id)[0], tracker.tags(run_id)
        if not place.exists and keeps_files(tags):
            return TrackingError(
                f"Run {run_id} has no {path}: its artifacts are at {place.uri}, which does not exist. Was the folder"
                " moved or deleted? `lab doctor` says how many runs are affected"
            )
        if Tag.KIND not in tags:
            return TrackingError(f"Run {run_id} has no {path}: it was not started by lab")
    if path == "config.yaml":
        return TrackingError(f"Run {run_id} has no {path}: it has not stored one yet, or it was deleted")
    return TrackingError(
        f"Run {run_id} has no {path}: only finished trials of a study or of `lab train` keep their best weights"
    )


def _no_run(tracker: Tracker, name: str) -> TrackingError:
    """Return the error for a name that can be none of a run's, such as that of a study."""
    if find_study_run(tracker, name) is not None:
        return TrackingError(f"'{name}' is a study, not a run; best:{name} is the best run of it")
    known = [f"best:{study}" for study in _studies(tracker)]
    return TrackingError(
        f"There is no run '{name}' at {tracker.uri}."
        + (
            suggest(f"best:{name}", known)
            or " Give its id or the start of it, models:/NAME/VERSION or best:STUDY"
        )
    )


def _studies(tracker: Tracker) -> list[str]:
    parents = tracker.runs(None, tags={Tag.KIND: "study"}, metrics=())
    names = parents.get(f"tags.{Tag.STUDY}")
    return [] if names is None else [str(name) for name in names.dropna()]


def _best_run(tracker: Tracker, study: str, *, for_grid: bool) -> str:
    experiment = tracker.find_experiment(study)
    if experiment is None or find_study_run(tracker, study) is None:
        near = nearest(study, _studies(tracker))
        how = " (`needs` in a grid file does that)" if for_grid else ""
        hint = f". Did you mean 'best:{near}'?" if near else f"; sweep it first{how}"
        raise TrackingError(f"There is no study '{study}' at {tracker.uri}{hint}")
    parent = tracker.runs(experiment, tags=_tags(study, "study"), limit=1).iloc[0]
    maximize = parent.get(f"tags.{Tag.DIRECTION}") != "minimize"
    runs = tracker.runs(experiment, tags=_tags(study, "trial"), metrics=("best_value", "params"))
    finished = runs[runs["status"] == RunStatus.FINISHED].to_dict("records")
    if not finished:
        raise TrackingError(f"No trial of the study '{study}' at {tracker.uri} has finished yet")
    planned = read_planned(tracker, str(parent["run_id"]))
    cells = planned.cells if planned is not None else ()
    # as in `lab best`, a trial with other settings does not count
    mine = [run for run in finished if run.get(f"tags.{Tag.CELL}") in cells] or finished
    best = min(mine, key=lambda run: _rank_key(run, maximize=maximize))
    return str(best["run_id"])


def _rank_key(run: Mapping[Hashable, Any], *, maximize: bool) -> tuple[int, float, float, int]:
    """Return the rank of a finished run within its study, as a sort key."""
    number, outcome = str(run.get(f"tags.{Tag.TRIAL}")), run.get(f"tags.{Tag.OUTCOME}")
    return rank(
        outcome if isinstance(outcome, str) else Outcome.COMPLETED,
        run.get("metrics.best_value"),
        run.get("metrics.params"),
        int(number) if number.isdecimal() else sys.maxsize,
        maximize=maximize,
    )


def _tags(study: str, kind: str) -> dict[str, str]:
    return {Tag.STUDY: study, Tag.KIND: kind}
