"""What is read from MLflow's tables is what MLflow's own search finds."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.store.db.utils import _get_latest_schema_revision

from lab.errors import TrackingError
from lab.tracking import RunRecord, RunStatus, connect, open_reader
from lab.tracking.base import RunQuery
from lab.tracking.mlflow import MlflowTracker, _record
from lab.tracking.reader import DatabaseReader
from lab.tracking.run_tables import _KNOWN, RunTables
from tests.servers import MlflowServer

ROOT = Path(__file__).parents[3]
STUDY = 'it\'s a "study" at 100 %'


@pytest.fixture
def sqlite(tmp_path: Path, fresh_databases: Path) -> str:
    shutil.copy(fresh_databases / "mlflow.db", tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> Callable[[str], tuple[str, str]]:
    """The address that a kind of store is written at, and that of its database."""

    def addresses(kind: str) -> tuple[str, str]:
        if kind == "postgresql":
            url = request.getfixturevalue("postgres").database().replace("://", "+psycopg://")
            return url, url
        if kind == "server":
            server: MlflowServer = request.getfixturevalue("server")
            server.start()
            return server.url, f"sqlite:///{server.folder}/mlflow.db"
        url = request.getfixturevalue("sqlite")
        return url, url

    return addresses


def filled(tracker: MlflowTracker) -> str:
    """Fill an experiment with all that runs may have; return its id."""
    gone = tracker.experiment("gone")
    tracker.open_run(name="of a deleted experiment", experiment=gone, tags={})
    tracker._client.delete_experiment(gone)
    experiment = tracker.experiment("runs")
    for number in range(4):
        tags = {"lab.study": STUDY, "lab.trial": str(number)}
        run = tracker.open_run(name=f"trial {number}", experiment=experiment, tags=tags)
        run.log_params({"lr": "0.1", "long": "é\"'\n\\" * 1000, "none": "", "only": str(number)})
        values = {
            "best value": 0.1 + 0.2 * number,
            "third": 1 / 3,
            "nan": math.nan,
            "up": math.inf,
            "down": -math.inf,
        }
        run.log_metrics(values, step=1)
        run.log_metrics({"best value": 1 / (3 + number)}, step=2)
        if number < 2:
            run.end(RunStatus.FAILED if number else RunStatus.FINISHED)
    deleted = tracker.open_run(name="deleted", experiment=experiment, tags={"lab.study": STUDY})
    tracker.delete_run(deleted.run_id)
    client = tracker._client
    empty = client.create_run(experiment, run_name="empty")
    client.log_batch(
        empty.info.run_id, [Metric("best value", math.nan, 1, 0)], [Param("x" * 250, "v" * 6000)]
    )
    client.log_batch(empty.info.run_id, tags=[RunTag("lab.study", STUDY), RunTag("a tag: b/c", "100% _")])
    client.create_run(tracker.experiment("another"), tags={"lab.study": STUDY})
    return experiment


def told(record: RunRecord) -> str:
    """Return all that is known of a run as a text: no NaN equals another."""
    values = {name: getattr(record, name) for name in ("params", "metrics", "tags")}
    return repr(replace(record, **{name: dict(sorted(found.items())) for name, found in values.items()}))


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("server", marks=pytest.mark.slow),
    ],
)
def test_the_tables_say_what_the_search_says(stores: Callable[[str], tuple[str, str]], kind: str) -> None:
    written, database = stores(kind)
    tracker = MlflowTracker(written)
    experiment = filled(tracker)
    tables = RunTables.of(database)
    assert tables is not None
    newest = "attributes.start_time DESC"
    metric = "metrics.`best value`"
    questions: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"experiment": experiment, "tags": {}}, {"order": newest}),
        ({"experiment": experiment, "tags": {"lab.study": STUDY}}, {"order": newest}),
        ({"experiment": experiment, "tags": {"lab.study": STUDY, "lab.trial": "2"}}, {"order": newest}),
        ({"experiment": experiment, "tags": {"lab.study": "no such study"}}, {"order": newest}),
        ({"experiment": None, "tags": {}}, {"order": newest}),
        ({"experiment": experiment, "tags": {}, "order_by": "best value"}, {"order": f"{metric} DESC"}),
        (
            {"experiment": experiment, "tags": {}, "order_by": "best value", "descending": False},
            {"order": f"{metric} ASC"},
        ),
        ({"experiment": experiment, "tags": {}, "limit": 2}, {"order": newest, "limit": 2}),
        ({"experiment": None, "tags": {}, "deleted": True}, {"order": newest, "view": ViewType.DELETED_ONLY}),
    ]
    for asked, searched in questions:
        found = tables.records(RunQuery(**asked))
        expected = [_record(run) for run in tracker._search(asked["experiment"], asked["tags"], **searched)]
        assert list(map(told, found)) == list(map(told, expected))
    assert len(tables.records(RunQuery(experiment))) == 5
    assert tables.experiment("runs") == experiment
    assert tables.experiment("gone") is None is tables.experiment("never there")


def test_only_the_metrics_asked_for_are_read(sqlite: str) -> None:
    experiment = filled(MlflowTracker(sqlite))
    for reader in (open_reader(sqlite), connect(sqlite)):
        runs = reader.runs(experiment, metrics=("best value", "t*", "not logged"))
        assert [name for name in runs if name.startswith("metrics.")] == [
            "metrics.best value",
            "metrics.third",
        ]
        assert not [name for name in reader.runs(experiment, metrics=()) if name.startswith("metrics.")]


def test_more_runs_take_no_more_queries(sqlite: str) -> None:
    tracker = MlflowTracker(sqlite)
    experiment = filled(tracker)
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert len(tracker.runs(experiment)) == 5
        before, asked[:] = len(asked), []
        for number in range(20):
            tracker.open_run(name=str(number), experiment=experiment, tags={})
        asked.clear()
        assert len(tracker.runs(experiment)) == 25
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(asked) == 4 <= before


def test_the_tags_of_a_run_are_read_anew_and_as_mlflow_has_them(sqlite: str) -> None:
    tracker, other = MlflowTracker(sqlite), MlflowTracker(sqlite)
    experiment = filled(tracker)
    (run_id, *_) = tracker.find_runs(experiment, {"lab.study": STUDY})
    tables = RunTables.of(sqlite)
    assert tables is not None
    assert tables.tags(run_id) == tracker.tags(run_id) == tracker._client.get_run(run_id).data.tags
    other._client.set_tag(run_id, "new", "größe")
    other.delete_run(run_id)
    assert tables.tags(run_id) == tracker.tags(run_id) == tracker._client.get_run(run_id).data.tags
    assert tables.tags("0" * 32) is None
    with pytest.raises(TrackingError, match=f"id={'0' * 32} not found"):
        tracker.tags("0" * 32)


CODE = """
import sys
from pathlib import Path
from lab.tracking import open_reader
reader = open_reader(sys.argv[1])
runs = reader.runs(reader.find_experiment("runs"))
file = reader.download(runs["run_id"].iloc[0], "a/note.txt", Path(sys.argv[2]))
print(len(runs), file.read_text(), reader.download(runs["run_id"].iloc[0], "b", Path(sys.argv[2])))
assert not {"mlflow", "torch"} & set(sys.modules)
"""


def test_a_database_is_read_without_mlflow(sqlite: str, tmp_path: Path) -> None:
    tracker = connect(sqlite, tmp_path / "artifacts")
    run = tracker.open_run(name="x", experiment=tracker.experiment("runs"), tags={})
    run.log_text("hello", "a/note.txt")
    done = subprocess.run(
        [sys.executable, "-c", CODE, sqlite, tmp_path / "copies"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1 hello None\n", "")


def test_a_path_out_of_the_artifacts_is_refused(sqlite: str, tmp_path: Path) -> None:
    tracker = connect(sqlite, tmp_path / "artifacts")
    run = tracker.open_run(name="x", experiment=tracker.experiment("runs"), tags={})
    with pytest.raises(TrackingError, match="must stay inside the run's artifacts"):
        open_reader(sqlite).download(run.run_id, "../../mlflow.db", tmp_path)


def test_the_installed_mlflow_has_a_schema_that_is_read() -> None:
    # if not: compare the tables named in lab/tracking/run_tables.py with MLflow's models, then add the revision there
    assert _get_latest_schema_revision() in _KNOWN


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = 'of a later version'",
        "UPDATE experiments SET workspace = 'a team'",
        "DROP TABLE alembic_version",
    ],
)
def test_what_is_not_known_is_left_to_mlflow(sqlite: str, change: str) -> None:
    assert isinstance(open_reader(sqlite), DatabaseReader)
    with sa.create_engine(sqlite).begin() as connection:
        connection.execute(sa.text(change))
    assert RunTables.of(sqlite) is None
    assert isinstance(open_reader(sqlite), MlflowTracker)


def test_a_database_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    assert RunTables.of(f"sqlite:///{tmp_path}/mlflow.db") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, " * 100)
    with pytest.raises(TrackingError, match=r"Reading runs failed at sqlite.*not a database"):
        open_reader(f"sqlite:///{tmp_path}/mlflow.db")
