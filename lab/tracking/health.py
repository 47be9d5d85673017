"""Inspects an MLflow store without creating, migrating or changing anything, and without waiting long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

from lab.tracking.environment import quieten, settle
from lab.tracking.tags import Tag, keeps_files

settle()  # before MLflow is imported

import mlflow  # noqa: E402
import requests  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from alembic.runtime.migration import MigrationContext  # noqa: E402
from alembic.script import ScriptDirectory  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.utils.credentials import get_default_host_creds  # noqa: E402
from mlflow.utils.rest_utils import http_request  # noqa: E402

from lab.errors import TrackingError  # noqa: E402
from lab.tracking.base import Place, public_uri  # noqa: E402
from lab.tracking.rebase import own_folders, place_of  # noqa: E402
from lab.tracking.translate import translated  # noqa: E402

__all__ = ["Answer", "Tables", "ask", "newest_run_files", "run_places", "search", "server_version", "tables"]

_PATIENCE = 8  # seconds for an answer
_SEARCH = "/api/2.0/mlflow/experiments/search"  # the first request of every trainer


@dataclass(frozen=True)
class Answer:
    """A server's answer: its HTTP status, the beginning of the text, and how far this machine's clock is ahead.

    The clock is None if the server did not tell its time.
    """

    status: int
    text: str
    clock: float | None


class Tables(NamedTuple):
    """The version of MLflow's tables that a database has (None if it has none), and the one it should have."""

    found: str | None
    expected: str
    known: bool = True  # whether this MLflow can upgrade it; an unknown version is newer


def ask(uri: str) -> Answer:
    """Ask the server at `uri` for its experiments, as trainers do, without retrying.

    Raises:
        UnavailableError: there is no answer.
    """
    return _ask(uri, _SEARCH, "POST")


def server_version(uri: str) -> str | None:
    """Return the version of the server at `uri`, None if it does not tell."""
    try:
        answer = _ask(uri, "/version", "GET")
    except TrackingError:
        return None
    words = answer.text.split()
    return words[0] if answer.status == 200 and len(words) == 1 else None


def tables(uri: str) -> Tables:
    """Return the version of the tables of the database at `uri`, which must exist if it is a file.

    Raises:
        UnavailableError: it is unreachable.
        TrackingError: it refused, or holds something else.
    """
    with translated(uri, "connecting"):
        url = sa.make_url(uri)
        option = "timeout" if url.get_backend_name() == "sqlite" else "connect_timeout"
        try:
            engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={option: _PATIENCE})
        except ImportError as error:
            raise TrackingError(f"Connecting failed at {public_uri(uri)}: {error}") from None
        with engine.connect() as connection:
            names = set(sa.inspect(connection).get_table_names())
            found = MigrationContext.configure(connection).get_current_revision()
    if not names - {"alembic_version"}:
        return Tables(None, "")
    if "experiments" not in names:
        raise TrackingError(f"The database {public_uri(uri)} has tables, but none of them is MLflow's")
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    known = {script.revision for script in scripts.walk_revisions()}
    return Tables(found, scripts.get_current_head() or "", found in known)


def search(uri: str) -> int:
    """Return how many experiments the store at `uri` has, counting up to 1,000: the first request of a trainer.

    Raises:
        TrackingError: it cannot answer.
    """
    quieten()
    with translated(uri, "searching experiments"):
        return len(MlflowClient(uri).search_experiments(max_results=1000))


def newest_run_files(uri: str) -> tuple[str, int] | None:
    """Return the newest run of the store at `uri` and the number of its top-level artifacts; None if there is no run.

    Raises:
        TrackingError: the store, or its artifact store, cannot answer.
    """
    quieten()
    client = MlflowClient(uri)
    with translated(uri, "listing artifacts"):
        experiments = [one.experiment_id for one in client.search_experiments(max_results=1000)]
        runs = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
        if not runs:
            return None
        return runs[0].info.run_id, len(client.list_artifacts(runs[0].info.run_id))


def run_places(uri: str, artifact_dir: Path) -> list[Place]:
    """Return where the artifacts are of those of the 1,000 newest runs of lab that have ended and must have some.

    Args:
        uri: of the store.
        artifact_dir: folder of its artifacts.

    Raises:
        TrackingError: the store cannot answer.
    """
    quieten()
    client = MlflowClient(uri)
    own = own_folders(uri, artifact_dir)
    with translated(uri, "looking at artifacts"):
        experiments = [one.experiment_id for one in client.search_experiments(max_results=1000)]
        runs = client.search_runs(
            experiments, f"tags.`{Tag.KIND}` != ''", order_by=["attributes.start_time DESC"], max_results=1000
        )
    return [
        place_of(run.info.artifact_uri, own)
        for run in runs
        if run.info.end_time and keeps_files(run.data.tags)
    ]


def _ask(uri: str, path: str, method: str) -> Answer:
    body = {"json": {"max_results": 1}} if method == "POST" else {}
    request: Any = http_request  # neither is typed
    credentials: Any = get_default_host_creds
    with translated(uri, "connecting"):
        before = time.time()
        answer: requests.Response = request(
            credentials(uri),
            path,
            method,
            max_retries=0,
            timeout=_PATIENCE,
            raise_on_status=False,
            **body,
        )
        now = (before + time.time()) / 2
    return Answer(answer.status_code, answer.text[:200], _ahead(answer, now))


def _ahead(answer: requests.Response, now: float) -> float | None:
    try:
        # the header has whole seconds, rounded down
        return now - (parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5)
    except (KeyError, ValueError):
        return None
