"""The files that an MLflow store keeps for a run: its artifacts, and those of the models it logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from lab.tracking.rebase import place_of

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import FileInfo, LoggedModel, ModelVersion, Run

    from lab.tracking.base import Place

__all__ = ["delete_files", "files", "models", "places", "registered_runs"]


def files(client: MlflowClient, run_id: str, folder: str | None = None) -> dict[str, int]:
    """Return the size in bytes of each artifact of a run by its path.

    Args:
        client: of the store.
        run_id: of the run, which may be deleted.
        folder: only those below this one; if None, all of them and those of the run's models as `models:/ID/PATH`.
    """
    run = client.get_run(run_id)
    found = dict(_below(_repository(client, run.info.artifact_uri), folder))
    for model in models(client, run) if folder is None else []:
        inside = _below(_repository(client, model.artifact_location), None)
        found |= {f"{model.model_uri}/{path}": size for path, size in inside}
    return found


def places(client: MlflowClient, run_id: str, own: Sequence[Path]) -> list[Place]:
    """Return where the artifacts of a run and of its models are; `own` are the store's folders on this machine."""
    run = client.get_run(run_id)
    uris = [run.info.artifact_uri, *(model.artifact_location for model in models(client, run))]
    return [place_of(uri, own) for uri in uris]


def delete_files(client: MlflowClient, run_id: str, paths: Sequence[str] | None) -> None:
    """Delete artifacts of a run, or all of them and its models.

    A model's record goes after its files, so that what was broken off is found again.
    """
    run = client.get_run(run_id)
    artifacts = _repository(client, run.info.artifact_uri)
    if paths is not None:
        for path in paths:
            artifacts.delete_artifacts(path)
        return
    for model in models(client, run):
        _repository(client, model.artifact_location).delete_artifacts()
        client.delete_logged_model(model.model_id)
    artifacts.delete_artifacts()


def registered_runs(client: MlflowClient) -> set[str]:
    """Return the ids of the runs that the versions of registered models came from."""
    return {
        run_id for version in _pages(client.search_model_versions) if (run_id := _origin(client, version))
    }


def _origin(client: MlflowClient, version: ModelVersion) -> str | None:
    known: str | None = version.run_id
    if known or not version.model_id:
        return known
    try:
        model: LoggedModel = client.get_logged_model(version.model_id)
        return model.source_run_id
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # the model was deleted, so there is nothing left to keep


def models(client: MlflowClient, run: Run) -> list[LoggedModel]:
    """Return the models that a run has logged."""
    mine = f"source_run_id = '{run.info.run_id}'"
    return list(
        _pages(
            lambda page_token: client.search_logged_models(
                [run.info.experiment_id], mine, page_token=page_token
            )
        )
    )


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield the items of all pages of a search."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _repository(client: MlflowClient, place: str) -> Any:
    return get_artifact_repository(place, tracking_uri=client.tracking_uri)


def _below(repository: Any, folder: str | None) -> Iterator[tuple[str, int]]:
    listed: list[FileInfo] = repository.list_artifacts(folder)
    for info in listed:
        if info.is_dir:
            yield from _below(repository, info.path)
        else:
            yield info.path, info.file_size or 0
