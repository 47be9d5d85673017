"""Trained models of earlier runs, found by a name and read back from what the runs logged."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lab.config import TrialConfig, load_config
from lab.data import data_root
from lab.errors import ConfigError, TrackingError
from lab.tracking import RunStatus, Tracker
from lab.training import CorruptCheckpoint, load_checkpoint

__all__ = ["Saved", "find_run", "restore", "restore_config"]


@dataclass(frozen=True)
class Saved:
    """What a run kept of its trial: its config, and the best weights as a state dict on the CPU."""

    run_id: str
    config: TrialConfig
    weights: dict[str, Tensor]

    def has_classes_of(self, config: TrialConfig) -> bool:
        """Whether a trial of `config` tells the same classes apart, so that the head serves it too."""
        return _classes(self.config) == _classes(config)


def find_run(tracker: Tracker, origin: str) -> str:
    """Return the id of the run that `origin` names.

    Args:
        tracker: where the runs are.
        origin: a run id, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or `best:STUDY`.

    Raises:
        TrackingError: there is no such model, or no finished trial in the study.
    """
    if origin.startswith("models:/"):
        return tracker.model_run(origin)
    if origin.startswith("best:"):
        return _best_run(tracker, origin.removeprefix("best:"))
    return origin.removeprefix("runs:/")


def restore(tracker: Tracker, run_id: str) -> Saved:
    """Return the trained model of a run.

    Raises:
        TrackingError: there is no such run, it was not lab's, or it has not kept its weights.
    """
    config = restore_config(tracker, run_id)
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, "checkpoints/best.pt", Path(folder))
        if file is None:
            raise TrackingError(
                f"Run {run_id} has no checkpoints/best.pt: only a finished trial of a study, or of `lab train`,"
                " keeps its best weights"
            )
        try:
            return Saved(
                run_id, config, load_checkpoint(file, unverified=True)
            )  # earlier runs have no checksums
        except CorruptCheckpoint as error:
            raise TrackingError(f"The weights of run {run_id} cannot be read: {error}") from None


def restore_config(tracker: Tracker, run_id: str) -> TrialConfig:
    """Return the config that a run was started with.

    Raises:
        TrackingError: there is no such run, or it was not lab's.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, "config.yaml", Path(folder))
        if file is None:
            raise TrackingError(f"Run {run_id} has no config.yaml: it was not started by lab")
        try:
            return load_config(file)
        except ConfigError as error:
            raise TrackingError(f"The config.yaml of run {run_id} cannot be read: {error}") from None


def _best_run(tracker: Tracker, study: str) -> str:
    experiment = tracker.find_experiment(study)
    parents = [] if experiment is None else tracker.find_runs(experiment, _tags(study, "study"))
    if experiment is None or not parents:
        raise TrackingError(
            f"There is no study '{study}' at {tracker.uri}; sweep it first, or name it in `needs`"
        )
    parent = tracker.runs(experiment, tags=_tags(study, "study"), limit=1).iloc[0]
    descending = parent.get("tags.lab.direction") != "minimize"
    runs = tracker.runs(experiment, tags=_tags(study, "trial"), order_by="best_value", descending=descending)
    finished = runs[runs["status"] == RunStatus.FINISHED]
    if finished.empty:
        raise TrackingError(f"No trial of the study '{study}' at {tracker.uri} has finished yet")
    return str(finished.iloc[0]["run_id"])


def _tags(study: str, kind: str) -> dict[str, str]:
    return {"lab.study": study, "lab.kind": kind}


def _classes(config: TrialConfig) -> tuple[object, ...]:
    folder = os.path.realpath(data_root(config)) if config.is_of_files else None
    return config.dataset, folder, config.classes
