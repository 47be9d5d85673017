"""What MLflow's own variables name around this process: the run that `mlflow run` opened, and an experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab import tracking
from lab.errors import ConfigError, TrackingError
from lab.tracking import RunStatus, UnavailableError
from lab.tracking.tags import Tag
from lab.training import Outcome

if TYPE_CHECKING:
    from lab.tracking import Run, Tracker
    from lab.tracking.base import RunRecord

__all__ = [
    "OuterSweep",
    "end_outer_run",
    "experiment_for",
    "ignored_variable",
    "outer_run_id",
]

_RUN_ID, _NAME, _ID = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
_PROJECT_TAG = "mlflow.project.entryPoint"  # set on every run that `mlflow run` opens
_DEFAULT_EXPERIMENT = "lab"
_MOST_CHARACTERS = 1000
_OUTCOMES = {
    RunStatus.FINISHED: Outcome.COMPLETED,
    RunStatus.FAILED: Outcome.FAILED,
    RunStatus.KILLED: Outcome.KILLED,
}


def outer_run_id(tracking_uri: str) -> str | None:
    """Return the id of the run that was opened for this process, None if there is none.

    Raises:
        TrackingError: `MLFLOW_RUN_ID` names a run that does not exist, has ended, or is about something else.
    """
    run_id = os.environ.get(_RUN_ID)
    if not run_id:
        return None
    _check(run_id, tracking_uri)
    return run_id


@dataclass
class OuterSweep:
    """The run of `mlflow run . -e sweep`: it names the study that it swept; it is neither a trial nor the study.

    Args:
        tracking_uri: of the tracking store.
        run_id: from `outer_run_id`; if None, there is no such run, and nothing is done.
    """

    tracking_uri: str
    run_id: str | None
    _run: Run | None = field(default=None, init=False)

    def link(self, study: str, parent: Run) -> None:
        """Name the study and its run."""
        if self.run_id is None:
            return
        note = f"A sweep of the study **{study}**; its trials are under the run `{parent.run_id}`."
        tags = {Tag.KIND: "sweep", Tag.STUDY: study, Tag.STUDY_RUN: parent.run_id, Tag.NOTE: note}
        self._run = _open(self.tracking_uri, self.run_id, tags)

    def end(self, status: RunStatus) -> None:
        """End it; `mlflow run` turns KILLED into FAILED (as of 3.17), so the outcome is also a tag."""
        if self._run is not None:
            self._run.set_tags({Tag.OUTCOME: _OUTCOMES[status]})
            self._run.end(status)


def end_outer_run(status: RunStatus, why: str, tracking_uri: str, *, joined: bool) -> None:
    """End the outer run, if there is one, so that it is not left RUNNING.

    Args:
        status: to end it with.
        why: the error that ends it, empty if none does.
        tracking_uri: of the tracking store.
        joined: whether `outer_run_id` already accepted the run; otherwise it is checked first.

    Raises:
        TrackingError: as `outer_run_id`, or the store cannot be written to.
    """
    run_id = os.environ.get(_RUN_ID)
    if not run_id:
        return
    tags = {Tag.OUTCOME: status.lower(), **({Tag.ERROR: why[:_MOST_CHARACTERS]} if why else {})}
    if not joined:
        _check(run_id, tracking_uri)
    _open(tracking_uri, run_id, tags).end(status)


def experiment_for(name: str | None, tracker: Tracker, *, chosen: bool) -> str:
    """Return the name of the experiment that a new run belongs to.

    Args:
        name: from the command line or from `MLFLOW_EXPERIMENT_NAME`.
        tracker: where the experiment of `MLFLOW_EXPERIMENT_ID` is looked up.
        chosen: whether `name` is from the command line, which overrides the environment.

    Raises:
        ConfigError: there is no experiment with that id, or it is not the one that `MLFLOW_EXPERIMENT_NAME` names.
    """
    identity = os.environ.get(_ID)
    if not identity or (name and chosen):
        return name or _DEFAULT_EXPERIMENT
    known = tracker.experiment_name(identity)
    if known is None:
        raise ConfigError(
            f"{_ID}: there is no experiment {identity} at {tracker.uri}. To ignore it: unset {_ID}"
        )
    if name and name != known:
        raise ConfigError(
            f"{_ID} names the experiment '{known}', but {_NAME} names '{name}'; unset one of them"
        )
    return known


def ignored_variable(study: str) -> str | None:
    """Return the variable that names another experiment than the one of `study`, None if there is none."""
    if os.environ.get(_RUN_ID):  # `mlflow run` sets both
        return None
    named = [variable for variable in (_NAME, _ID) if os.environ.get(variable)]
    return named[0] if named and os.environ.get(_NAME) != study else None


def _check(run_id: str, tracking_uri: str) -> None:
    """Raise if a run was not opened for this process: its results would mix with others."""
    try:
        reason = _refusal(tracking.connect(tracking_uri).record(run_id))
    except UnavailableError:
        raise
    except TrackingError:
        reason = f"is not at {tracking.public_uri(tracking_uri)}"
    if reason:
        raise TrackingError(
            f"{_RUN_ID} names run {run_id}, which {reason}, so nothing was written to it. To get a new run: "
            f"unset {_RUN_ID}"
        )


def _refusal(run: RunRecord) -> str:
    if run.status not in (RunStatus.RUNNING, RunStatus.SCHEDULED):
        return f"has ended ({run.status})"
    if Tag.KIND in run.tags:
        return f"already belongs to a {run.tags[Tag.KIND]}"
    if _PROJECT_TAG not in run.tags and (run.params or run.metrics):
        return "is about something else: `mlflow run` did not open it, and it has params or metrics"
    return ""


def _open(tracking_uri: str, run_id: str, tags: Mapping[str, str]) -> Run:
    """Open the run that `outer_run_id` returned, and set `tags` on it."""
    return tracking.connect(tracking_uri).open_run(name="", experiment="", tags=tags, run_id=run_id)
