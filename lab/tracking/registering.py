"""The model registry of an MLflow store: versions of a model under a name, and aliases for them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lab.errors import TrackingError
from lab.tracking.artifacts import models
from lab.tracking.base import Registered, no_model
from lab.tracking.environment import sent_once
from lab.tracking.writes import Model

__all__ = ["origin_of", "register"]

_LOGGED: Final = re.compile(r"m-[0-9a-f]{32}")  # the id of a model that is not registered
_VERSIONS: Final = (
    "mlflow.modelVersions"  # tag of a logged model: the UI shows these versions on the run's page
)


def origin_of(client: MlflowClient, uri: str) -> str | None:
    """Return the id of the run that a model came from, None if it came from none: see `Tracker.model_run`.

    Raises:
        TrackingError: the address names no version.
        MlflowException: there is no such model.
    """
    name, at, alias = uri.removeprefix("models:/").rpartition("@")
    if at:
        return client.get_model_version_by_alias(name, alias).run_id or None
    name, slash, version = alias.rpartition("/")
    if slash:
        return client.get_model_version(name, version).run_id or None
    if not _LOGGED.fullmatch(version):
        raise TrackingError(f"{uri} names no version: give models:/NAME/VERSION or models:/NAME@ALIAS")
    logged: str | None = client.get_logged_model(version).source_run_id
    return logged


def register(
    client: MlflowClient, run_id: str, name: str, aliases: Sequence[str], description: str
) -> Registered:
    """Register the model of a run: see `Tracker.register`.

    Raises:
        MlflowException: the store refused.
    """
    model = _model(client, run_id)
    known = _version_of(client, run_id, name)
    if known is None:
        _ensure(client, name)
        # its place, not models:/ID, which a database would look up in MLflow's global store
        place = model.artifact_location
        with sent_once():
            known = client.create_model_version(
                name, place, run_id, description=description, model_id=model.model_id
            )
        _show_on_run(client, model, known)
        is_new = True
    else:
        client.update_model_version(name, known.version, description)
        is_new = False
    for alias in aliases:
        client.set_registered_model_alias(name, alias, known.version)
    return Registered(name, str(known.version), is_new)


def _model(client: MlflowClient, run_id: str) -> LoggedModel:
    """Return the newest model that a run has logged, and not only begun to."""
    run = client.get_run(run_id)
    found = [model for model in models(client, run) if model.name == Model.name and model.status == "READY"]
    if not found:
        raise no_model(run_id)
    return max(found, key=lambda model: model.creation_timestamp)


def _version_of(client: MlflowClient, run_id: str, name: str) -> ModelVersion | None:
    """Return the newest version of a registered model that came from a run."""
    found = client.search_model_versions(f"run_id = '{run_id}'")
    mine = [version for version in found if version.name == name]
    return max(mine, key=lambda version: int(version.version), default=None)


def _ensure(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _show_on_run(client: MlflowClient, model: LoggedModel, version: ModelVersion) -> None:
    shown = json.loads(model.tags.get(_VERSIONS, "[]"))
    shown.append({"name": version.name, "version": version.version})
    client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps(shown)})
