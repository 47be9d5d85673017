"""Checks of the tracking store: whether trials can use it, its version, and the writes that it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from lab.errors import TrackingError
from lab.places import arrival, sqlite_file
from lab.study import database_exists
from lab.tracking import Place, health, left, public_uri, stores_left
from lab.upkeep.clocks import clock_finding
from lab.upkeep.finding import Finding, Verdict
from lab.wording import counted

__all__ = ["check_journals", "check_tracking"]

_CHECK = "tracking store"
_SIGN_IN = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or put them into ~/.mlflow/credentials."
)
_START = "Start it (`lab ui` on this machine), or name another with --tracking-uri (MLFLOW_TRACKING_URI)."
_NOTEWORTHY = 10.0  # seconds that a write may wait before it is worth reporting


def check_tracking(uri: str, artifact_dir: Path) -> Iterator[Finding]:
    """Check the store at `uri`, up to the first failure.

    Args:
        uri: address of the store.
        artifact_dir: folder of its artifacts, if it has no server.
    """
    if uri == "memory":
        yield Finding(_CHECK, Verdict.OK, "in memory: nothing is stored")
    elif uri.startswith("http"):
        yield from _server(uri)
    elif not database_exists(uri):
        yield Finding(_CHECK, Verdict.OK, "none yet; the first run creates it")
    else:
        yield from _database(uri, artifact_dir)


def check_journals(folder: Path, uri: str) -> Iterator[Finding]:
    """Check for writes of trials on this machine that their store has not acknowledged."""
    name, shown = "undelivered journals", public_uri(uri)
    found = left(folder, shown, seconds=_NOTEWORTHY)
    if found:
        verdict = Verdict.FAILED if found.refused else Verdict.WARNING
        yield Finding(name, verdict, f"{shown} lacks {found}; kept in {folder}", "lab sync")
    others = [store for store in stores_left(folder) if store != shown and left(folder, store)]
    for other in others:
        yield Finding(
            name,
            Verdict.WARNING,
            f"{other} lacks {left(folder, other)}; kept in {folder}",
            f"lab sync --tracking-uri {other}",
        )
    if not found and not others:
        yield Finding(name, Verdict.OK, "none")


def _server(uri: str) -> Iterator[Finding]:
    try:
        answer = health.ask(uri)
    except TrackingError as error:
        yield Finding(_CHECK, Verdict.FAILED, str(error), _START)
        return
    refusal = _refusal(uri, answer.status, answer.text)
    if refusal is not None:
        yield refusal
        return
    yield Finding(_CHECK, Verdict.OK, f"{public_uri(uri)}: answers a search for experiments")
    yield _server_version(uri)
    if answer.clock is not None:
        yield clock_finding(answer.clock, "the MLflow server")
    yield _artifacts(uri)


def _refusal(uri: str, status: int, text: str) -> Finding | None:
    """Return a finding about an answer that is not a list of experiments, None about one that is."""
    shown = public_uri(uri)
    if status == 200 and text.lstrip().startswith("{"):
        return None
    if status == 401:
        return Finding(_CHECK, Verdict.FAILED, f"{shown}: not signed in, or wrong password (401)", _SIGN_IN)
    if status == 403:
        found = f"{shown}: refused (403): {text}"
        mend = "Start the server with its host name in --allowed-hosts, or sign in with an account that has access."
        return Finding(_CHECK, Verdict.FAILED, found, mend)
    if status >= 500:
        return Finding(_CHECK, Verdict.FAILED, f"{shown}: fails ({status}): {text}", "Read the server's log.")
    found = f"{shown}: answers, but not as an MLflow server ({status})"
    return Finding(
        _CHECK, Verdict.FAILED, found, "Name the MLflow server with --tracking-uri (MLFLOW_TRACKING_URI)."
    )


def _server_version(uri: str) -> Finding:
    check, here, there = "MLflow server's version", version("mlflow"), health.server_version(uri)
    if there is None:
        return Finding(check, Verdict.OK, "not reported")
    if there == here:
        return Finding(check, Verdict.OK, f"{there}, as installed here")
    mend = f"pip install mlflow=={there} (or upgrade the server to {here})"
    return Finding(check, Verdict.WARNING, f"the server has {there}, this machine has {here}", mend)


def _database(uri: str, artifact_dir: Path) -> Iterator[Finding]:
    shown = public_uri(uri)
    try:
        schema = health.tables(uri)
        if schema.found == schema.expected:
            health.search(uri)
    except TrackingError as error:
        yield Finding(_CHECK, Verdict.FAILED, str(error), _database_mend(str(error)))
        return
    if not schema.expected:
        yield Finding(_CHECK, Verdict.OK, f"{shown}: empty; the first run creates its tables")
    elif schema.found != schema.expected:
        found = f"{shown}: its tables have version {schema.found}, MLflow here needs {schema.expected}"
        mend = f"mlflow db upgrade {shown}" if schema.known else "pip install -U mlflow"
        yield Finding(_CHECK, Verdict.FAILED, found, mend)
    else:
        yield Finding(_CHECK, Verdict.OK, f"{shown}: answers; tables have version {schema.found}")
        yield _artifacts(uri)
        yield from _places(uri, artifact_dir)


def _database_mend(reason: str) -> str:
    if "password" in reason or "authentication" in reason or "role" in reason:
        return "Put the correct user and password into --tracking-uri (MLFLOW_TRACKING_URI)."
    if "No module named" in reason:
        return (
            "Install its driver; for PostgreSQL, pip install 'lab[postgres]' and write postgresql+psycopg://…"
        )
    return "Start that database, or name another with --tracking-uri (MLFLOW_TRACKING_URI)."


def _artifacts(uri: str) -> Finding:
    try:
        newest = health.newest_run_files(uri)
    except (TrackingError, ImportError) as error:
        mend = "Let the server store artifacts itself (--artifacts-destination), or give this machine access to them."
        return Finding("artifacts", Verdict.FAILED, str(error), mend)
    if newest is None:
        return Finding("artifacts", Verdict.OK, "no run yet")
    run_id, entries = newest
    return Finding(
        "artifacts", Verdict.OK, f"answers: {counted(entries, 'entry')} in the newest run, {run_id}"
    )


def _places(uri: str, artifact_dir: Path) -> Iterator[Finding]:
    """Check that the artifacts of runs are where their records say, and in this store's own folders."""
    check, database = "artifact locations", sqlite_file(uri)
    came = None if database is None else arrival(database)
    if came is not None:
        how = "copied" if came.copied else "moved"
        found = f"{came.home} was {how} from {came.origin}, where its runs still look for their artifacts"
        yield Finding(check, Verdict.WARNING, found, "lab status (or any other command, which updates them)")
        return
    places = health.run_places(uri, artifact_dir)
    gone = [place.uri for place in places if not place.exists]
    strange = [place.uri for place in places if place.exists and not place.own]
    if gone:
        found = f"the artifact folders of {_of(gone, places)} do not exist, such as {gone[0]}"
        yield Finding(
            check, Verdict.WARNING, found, "Put the folder back where it was, or delete these runs."
        )
    if strange:
        found = f"the artifacts of {_of(strange, places)} are outside {artifact_dir}, such as {strange[0]}"
        mend = "Use these runs in the project that made them; `lab gc` leaves them alone."
        yield Finding(check, Verdict.WARNING, found, mend)
    if not gone and not strange:
        yield Finding(
            check, Verdict.OK, f"{counted(len(places), 'run')} checked: all in this store's folders"
        )


def _of(some: list[str], places: list[Place]) -> str:
    return f"{len(some):,} of the newest {len(places):,} runs"
