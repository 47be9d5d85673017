"""The experiment that the environment names, as MLflow reads it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lab.errors import ConfigError

if TYPE_CHECKING:
    from lab.tracking import Tracker

__all__ = ["experiment_of", "note_experiment"]

_NAME, _ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
_DEFAULT = "lab"


def experiment_of(name: str | None, tracker: Tracker) -> str:
    """Return the name of the experiment that a new run belongs to.

    Args:
        name: what `--experiment`, or the environment in its place, says.
        tracker: where the experiment of `MLFLOW_EXPERIMENT_ID` is looked up.

    Raises:
        ConfigError: there is no experiment of that id, or it is not the one that `MLFLOW_EXPERIMENT_NAME` names.
    """
    source = click.get_current_context().get_parameter_source("experiment")
    identity = os.environ.get(_ID)
    if not identity or (name and source is ParameterSource.COMMANDLINE):
        return name or _DEFAULT
    known = tracker.experiment_name(identity)
    if known is None:
        raise ConfigError(
            f"{_ID}: there is no experiment {identity} at {tracker.uri}. Without it: unset {_ID}"
        )
    if name and name != known:
        raise ConfigError(f"{_ID} names the experiment '{known}', but {_NAME} '{name}'; unset one of them")
    return known


def note_experiment(study: str) -> None:
    """Say that a study has an experiment of its own, where the environment names another."""
    if os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` sets both
        return
    named = [variable for variable in (_NAME, _ID) if os.environ.get(variable)]
    if named and os.environ.get(_NAME) != study:
        click.echo(f"{named[0]} is not used: a study's experiment has the study's name, '{study}'", err=True)
