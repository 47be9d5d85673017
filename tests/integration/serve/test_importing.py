"""A `.lab` that was outgrown, moved to a server: nothing of it is lost, and what it had begun goes on there."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lab.config import Grid, parse_grid
from lab.engines import Stores, sweep
from lab.errors import ConfigError, LabError
from lab.restore import find_run, restore
from lab.serve import Imported, import_home
from lab.server_file import ServerFile
from lab.study import TrialQueue, WorkerSettings, feasible_cells, open_storage, study_status, submit, work
from lab.study.events import EpochEnded, Event
from lab.tracking import JournaledTracker, connect, follow, prepare
from lab.tracking.courier import Courier
from lab.tracking.mlflow import MlflowTracker
from tests.once import copy_of, made_once
from tests.servers import MlflowServer

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]

BASE = "dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, epochs: 6, patience: none"
GRID = f"name: tiny\nbase: {{{BASE}}}\ngrid:\n  lr: [0.01, 0.02]\n  activation: [relu, tanh]\n"
SEARCH = (
    f"name: hunt\nbase: {{{BASE}}}\nsearch:\n  sampler: {{name: random, seed: 1}}\n"
    "  space: {lr: {low: 0.001, high: 0.1, log: true}}\nbudget: {trials: 4}\n"
)
CLOCK = {"epoch_seconds", "images_per_second", "seconds"}
DATASET: dict[str, Any] = {
    "name": "mine",
    "digest": "0123abcd",
    "source": "here",
    "shape": [1, 8, 8],
    "classes": ["a", "b"],
    "images": {"train": 2},
}


def grid() -> Grid:
    return parse_grid(GRID, "tiny.yaml")


def search() -> Grid:
    return parse_grid(SEARCH, "hunt.yaml")


def home_stores(home: Path) -> Stores:
    return Stores(
        f"sqlite:///{home}/optuna.db",
        f"sqlite:///{home}/mlflow.db",
        home / "artifacts",
        home / "checkpoints",
        home / "journal",
    )


def work_until(settings: WorkerSettings, number: int, epoch: int) -> None:
    """Work in this process, which is killed after an epoch of a trial."""

    def die(event: Event) -> None:
        if isinstance(event, EpochEnded) and (event.number, event.epoch) == (number, epoch):
            os.kill(os.getpid(), signal.SIGKILL)

    work(settings, die, lambda: False)


def killed(stores: Stores, study: str, number: int, epoch: int) -> None:
    arguments = (stores.for_worker(study), number, epoch)
    process = multiprocessing.get_context("forkserver").Process(target=work_until, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def queue_of(stores: Stores, study: str) -> TrialQueue:
    return TrialQueue(open_storage(stores.storage), study)


def fill(stores: Stores) -> None:
    """Make a grid with a cell that failed, one that is done, one that was interrupted and one that waits; and more."""
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    storage = open_storage(stores.storage)
    for each in (grid(), search()):
        submit(each, feasible_cells(each), storage, tracker)
    queue = TrialQueue(storage, "tiny")
    failed = queue.claim()
    assert failed is not None
    queue.note_trial(failed.trial_id, "outcome", "failed")
    queue.note_trial(failed.trial_id, "error", "made to fail")
    queue.fail(failed.trial_id)
    killed(stores, "tiny", 2, 3)
    killed(stores, "hunt", 1, 2)
    storage.engine.dispose()
    register(stores)


def register(stores: Stores) -> None:
    """Register the model of the trial that is done, and delete the run of a trial that never was."""
    tracker: Any = connect(stores.tracking_uri, stores.artifact_dir)
    done = study_run(stores, "tiny", 1)
    client = tracker._client
    client.create_registered_model("best")
    (model,) = client.search_logged_models([tracker.find_experiment("tiny")], f"source_run_id = '{done}'")
    client.create_model_version("best", model.artifact_location, done, model_id=model.model_id)
    client.set_registered_model_alias("best", "champion", "1")
    process = multiprocessing.get_context("forkserver").Process(target=leave_undelivered, args=(stores,))
    process.start()
    process.join()
    run = tracker.open_run(name="gone", experiment=tracker.experiment("lab"), tags={"note": "nul\0l"})
    run.log_dataset(**DATASET)
    run.log_text("kept\n", "deep/note with spaces.txt")
    client.delete_run(run.run_id)


def leave_undelivered(stores: Stores) -> None:
    """Log to a run, and exit before any of it is delivered."""
    Courier._work = lambda self: threading.Event().wait()  # type: ignore[method-assign,assignment,return-value]
    JournaledTracker.local_patience = 0.0
    tracker = connect(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)
    run = tracker.open_run(name="late", experiment=tracker.experiment("lab"), tags={})
    run.log_metrics({"loss": 0.5}, 1)
    os._exit(0)


def study_run(stores: Stores, study: str, number: int) -> str:
    run_id = queue_of(stores, study).records()[number].run_id
    assert run_id is not None
    return run_id


@pytest.fixture(scope="module")
def outgrown(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Path:
    """A `.lab` that nobody uses any more, to be copied."""

    def make(folder: Path) -> None:
        copy_of(fresh_databases, folder)
        fill(home_stores(folder))

    return made_once(tmp_path_factory, "outgrown", make)


@pytest.fixture
def home(outgrown: Path, tmp_path: Path) -> Path:
    """An outgrown `.lab` of this test's own."""
    home = tmp_path / ".lab"
    shutil.copytree(outgrown, home, ignore=shutil.ignore_patterns("*.db-wal", "*.db-shm", "optuna.db.place"))
    follow(home_stores(home).tracking_uri, home / "artifacts", home / "journal")
    return home


class Target:
    """A server's stores: its databases, MLflow's address and its folder of artifacts."""

    def __init__(self, folder: Path, database: str, storage: str) -> None:
        self.folder, self.database = folder, database
        self.file = ServerFile("http://127.0.0.1:1", storage)  # nothing listens there, until a test starts it
        self.artifacts = folder / "artifacts"

    def import_home(self, home: Path, **options: Any) -> Imported:
        return import_home(home, self.file, database=self.database, artifacts=self.artifacts, **options)

    def stores(self, home: Path) -> Stores:
        return replace(home_stores(home), storage=self.file.storage, tracking_uri=self.file.tracking_uri)


class PostgresMlflow(MlflowServer):
    """A server whose database is in PostgreSQL."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.folder)
        self._database = target.database

    def _command(self) -> list[str]:
        command = super()._command()
        command[command.index("--backend-store-uri") + 1] = self._database
        return command


@pytest.fixture(scope="module")
def empty_mlflow(postgres: Any) -> str:
    """The address of a database with MLflow's tables, to be copied: creating them takes seconds."""
    address = postgres.database().replace("://", "+psycopg://")
    prepare(address)
    return str(address)


@pytest.fixture
def target(tmp_path: Path, postgres: Any, empty_mlflow: str) -> Target:
    database = copied_database(empty_mlflow)
    (tmp_path / "server").mkdir()
    return Target(tmp_path / "server", database, postgres.database())


@pytest.fixture
def served(target: Target) -> Iterator[Target]:
    """The stores of a server whose MLflow runs."""
    server = PostgresMlflow(target)
    server.start()
    target.file = replace(target.file, tracking_uri=server.url)
    yield target
    server.stop()


def copied_database(address: str) -> str:
    url = sa.make_url(address)
    name = f"lab_{uuid.uuid4().hex}"
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'"
        connection.execute(sa.text(ending))
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {url.database}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def content(address: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, sorted."""
    engine = sa.create_engine(
        address.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        return sorted(tuple(map(str, row)) for row in connection.execute(sa.text(query)))


# of a study all that Optuna keeps, without its own ids; states as text, as SQLite has them
STUDIES = (
    "SELECT s.study_name, t.number, CAST(t.state AS VARCHAR(9)) FROM trials t "
    "JOIN studies s ON s.study_id = t.study_id",
    "SELECT s.study_name, d.objective, CAST(d.direction AS VARCHAR(9)) FROM study_directions d "
    "JOIN studies s ON s.study_id = d.study_id",
    "SELECT s.study_name, a.key, a.value_json FROM study_user_attributes a JOIN studies s ON s.study_id = a.study_id",
    *(
        f"SELECT s.study_name, t.number, {columns} FROM {table} a JOIN trials t ON t.trial_id = a.trial_id "
        "JOIN studies s ON s.study_id = t.study_id"
        for table, columns in {
            "trial_user_attributes": "a.key, a.value_json",
            "trial_system_attributes": "a.key, a.value_json",
            "trial_params": "a.param_name, a.param_value, a.distribution_json",
            "trial_values": "a.objective, a.value, CAST(a.value_type AS VARCHAR(9))",
            "trial_intermediate_values": "a.step, a.intermediate_value",
        }.items()
    ),
)
RUNS = (
    "SELECT run_uuid, name, status, lifecycle_stage, start_time, end_time, deleted_time, experiment_id FROM runs",
    "SELECT run_uuid, key, value, step, timestamp FROM metrics",
    "SELECT run_uuid, key, value, step FROM latest_metrics",
    "SELECT run_uuid, key, value FROM params",
    "SELECT run_uuid, key, REPLACE(value, 'nul', '') FROM tags WHERE key <> 'note'",
    "SELECT experiment_id, name, digest, dataset_uuid FROM datasets",
    "SELECT source_id, destination_id, input_uuid FROM inputs",
    "SELECT model_id, experiment_id, name, source_run_id FROM logged_models",
    "SELECT name, version, run_id, current_stage FROM model_versions",
    "SELECT name, alias, version FROM registered_model_aliases",
    "SELECT experiment_id, name, lifecycle_stage FROM experiments",
    "SELECT experiment_id, key, value FROM experiment_tags",
)


def test_everything_is_there_under_its_own_name_and_id(home: Path, target: Target) -> None:
    shutil.rmtree(home / "checkpoints")  # they need a server that answers
    steps: list[tuple[str, int, int]] = []
    stores = home_stores(home)
    dates = "SELECT number, datetime_start, datetime_complete FROM trials WHERE datetime_complete IS NOT NULL"
    before = content(stores.storage, dates)
    imported = target.import_home(home, on_progress=lambda *step: steps.append(step))
    assert imported.studies == ("hunt", "tiny")
    assert (imported.trials, imported.skipped) == (8, ())
    assert str(imported).startswith("Imported 2 studies (hunt, tiny) with 8 trials, ")
    old = f"sqlite:///{home}/optuna.db.imported", f"sqlite:///{home}/mlflow.db.imported"
    late = "SELECT m.value FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid WHERE r.name = 'late' AND key = 'loss'"
    assert content(target.database, late) == [("0.5",)]
    for query in RUNS:
        assert content(target.database, query) == content(old[1], query), query
    interrupted = "('\"lab:worker\"', 'lab:worker', 'lab:put_back')"
    for query in STUDIES[1:]:
        kept = [row for row in content(old[0], query) if row[2] not in interrupted]
        assert [row for row in content(target.file.storage, query) if row[2] not in interrupted] == kept, (
            query
        )
    assert Counter(row[::2] for row in content(target.file.storage, STUDIES[0])) == {
        ("hunt", "COMPLETE"): 1,
        ("hunt", "WAITING"): 3,
        ("tiny", "FAIL"): 1,
        ("tiny", "COMPLETE"): 1,
        ("tiny", "WAITING"): 2,
    }
    assert [row[1:] for row in content(target.file.storage, dates)] == [
        tuple(value[:26] for value in row[1:]) for row in before
    ]
    assert {what for what, _, _ in steps} == {"folders of artifacts", "rows of runs", "trials"}
    assert all(done <= total for _, done, total in steps)
    assert [(done, total) for what, done, total in steps if what == "trials"][-1] == (8, 8)


@pytest.mark.slow
def test_what_was_begun_goes_on_at_the_server_bit_for_bit(
    home: Path, served: Target, tmp_path: Path, fresh_databases: Path
) -> None:
    run_ids = {
        name: study_run(home_stores(home), "tiny", number) for number, name in ((1, "done"), (2, "half"))
    }
    imported = served.import_home(home)
    assert imported.checkpoints == 2
    stores = replace(served.stores(home), checkpoint_dir=tmp_path / "another machine's")
    status = study_status(stores.storage, "tiny")
    assert status.states == {"failed": 1, "complete": 1, "waiting": 2}
    assert status.failed[0]["error"] == "made to fail"
    hunt = sweep(search(), stores, workers=1)
    assert hunt.states == {"complete": 4}
    result = sweep(grid(), stores, workers=1, retry_failed=True)
    assert (result.states, len(result.leaderboard), result.trouble) == ({"complete": 4}, 4, "")
    assert {name: study_run(stores, "tiny", number) for number, name in ((1, "done"), (2, "half"))} == run_ids
    (tmp_path / "calm").mkdir()
    copy_of(fresh_databases, tmp_path / "calm")
    calm = home_stores(tmp_path / "calm")
    sweep(grid(), calm, workers=1)
    assert points(stores, "tiny") == points(calm, "tiny")
    tracker = connect(stores.tracking_uri)
    assert not tracker.tags(run_ids["half"]).keys() & {"lab.restarted", "lab.continued"}
    assert restore(tracker, find_run(tracker, "models:/best@champion")).run_id == run_ids["done"]
    served_files = {run_id: tracker.files(run_id) for run_id in run_ids.values()}
    assert all("config.yaml" in files for files in served_files.values())
    models = content(served.database, "SELECT artifact_location, status FROM logged_models")
    assert all(place.startswith("mlflow-artifacts:/") for place, _ in models)
    new = tracker.experiment("new")
    assert int(new) > max(int(row[0]) for row in content(served.database, "SELECT experiment_id FROM runs"))


def points(stores: Stores, study: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What MLflow has on each trial of a finished study: every metric but what the clock says, as logged."""
    tracker = MlflowTracker(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "trial"})
    assert runs["status"].tolist() == ["FINISHED"] * len(runs)
    found = {}
    for name, run_id in zip(runs["name"], runs["run_id"], strict=True):
        metrics = tracker._client.get_run(run_id).data.metrics
        chosen = {each for each in metrics if not each.startswith("system/")} - CLOCK
        found[name] = {
            metric: sorted(
                (point.step, point.value) for point in tracker._client.get_metric_history(run_id, metric)
            )
            for metric in chosen
        }
    return found


def test_an_import_that_is_broken_off_leaves_nothing_half_done_and_is_completed(
    home: Path, target: Target
) -> None:
    shutil.rmtree(home / "checkpoints")
    for moment in ("folders of artifacts", "rows of runs", "trials"):

        def break_off(what: str, done: int, total: int, moment: str = moment) -> None:
            if what == moment and done > 0:
                raise KeyboardInterrupt("in the middle")

        with pytest.raises(KeyboardInterrupt, match="in the middle"):
            target.import_home(home, on_progress=break_off)
        assert content(target.file.storage, "SELECT study_name FROM studies") == []
        assert len(content(target.database, "SELECT run_uuid FROM runs")) == (8 if moment == "trials" else 0)
        assert not list(home.glob("import-*"))
    assert target.import_home(home).trials == 8
    assert not (home / "optuna.db").exists()
    with pytest.raises(ConfigError, match=r"nothing to import: .*optuna.db.imported was imported before"):
        target.import_home(home)
    assert len(content(target.database, "SELECT run_uuid FROM runs")) == 8


def restored(home: Path) -> None:
    """Undo the renaming of an import."""
    for file in home.glob("*.imported"):
        file.rename(file.with_suffix(""))


def test_what_the_server_has_already_is_skipped_and_what_went_on_in_both_is_refused(
    home: Path, target: Target
) -> None:
    shutil.rmtree(home / "checkpoints")
    target.import_home(home)
    restored(home)
    again = target.import_home(home)
    assert (again.studies, again.skipped, again.trials, again.runs, again.files) == (
        (),
        ("hunt", "tiny"),
        0,
        0,
        0,
    )
    assert str(again).endswith("On the server already: hunt, tiny.")
    restored(home)
    queue = queue_of(home_stores(home), "tiny")
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    queue.storage.engine.dispose()
    with pytest.raises(LabError, match=r"'tiny' was imported into .* before, and has gone on here since"):
        target.import_home(home)


def test_another_study_of_the_same_name_is_refused_before_anything_is_copied(
    home: Path, target: Target
) -> None:
    prepare(f"sqlite:///{home}/other.db")
    submit(
        grid(),
        feasible_cells(grid()),
        open_storage(target.file.storage),
        connect(f"sqlite:///{home}/other.db"),
    )
    with pytest.raises(
        LabError, match=r"Another study 'tiny' is at postgresql://.* import it into a new server"
    ):
        target.import_home(home)
    assert content(target.database, "SELECT run_uuid FROM runs") == []
    assert not target.artifacts.exists() or not list(target.artifacts.iterdir())
    assert (home / "optuna.db").exists()


def test_a_running_worker_is_named(home: Path, target: Target) -> None:
    queue = queue_of(home_stores(home), "tiny")
    assert queue.claim() is not None  # by this process, which is alive
    queue.storage.engine.dispose()
    with pytest.raises(
        LabError, match=rf"workers still run: trial 3 of tiny \(.*:{os.getpid()}:.*\)\. Stop them"
    ):
        target.import_home(home)
    assert content(target.file.storage, "SELECT study_name FROM studies") == []


def test_a_process_that_waits_for_trials_is_named(home: Path, target: Target) -> None:
    waiting = f"import sqlite3, sys; opened = sqlite3.connect({str(home / 'optuna.db')!r}); "
    waiting += "opened.execute('SELECT 1 FROM trials'); print(flush=True); sys.stdin.read()"
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    with subprocess.Popen(
        [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LabError, match=rf"optuna.db: is in use by process {process.pid} "):
            target.import_home(home)
        process.kill()
    assert content(target.file.storage, tables) == []


def test_an_empty_folder_is_refused(tmp_path: Path, target: Target) -> None:
    with pytest.raises(ConfigError, match=r"nothing to import: neither optuna\.db nor mlflow.db is in it"):
        target.import_home(tmp_path)


def test_experiments_that_the_server_has_are_joined_and_others_keep_their_runs_under_a_free_id(
    home: Path, target: Target
) -> None:
    shutil.rmtree(home / "checkpoints")
    there: Any = connect(target.database)
    taken, lab = there.experiment("taken"), there.experiment("lab")
    for experiment in (taken, lab):
        run = there.open_run(name="theirs", experiment=experiment, tags={})
        run.log_dataset(**DATASET)
    target.import_home(home)
    runs = "SELECT e.name, r.name FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id"
    old = content(f"sqlite:///{home}/mlflow.db.imported", runs)
    assert content(target.database, runs) == sorted([*old, ("lab", "theirs"), ("taken", "theirs")])
    gone = content(target.database, "SELECT run_uuid FROM runs WHERE name = 'gone'")[0][0]
    assert there.dataset_digests(gone) == {("mine", "0123abcd")}
    assert (
        len(content(target.database, "SELECT 1 FROM datasets WHERE name = 'mine'")) == 2
    )  # one each in taken and lab
    ids = dict(content(target.database, "SELECT name, experiment_id FROM experiments"))
    assert (ids["taken"], ids["lab"]) == (taken, lab)
    assert len(set(ids.values())) == len(ids) == 5


def test_other_models_and_deleted_experiments_of_the_same_names_are_refused(
    home: Path, target: Target
) -> None:
    there: Any = connect(target.database)
    lab = there.experiment("lab")
    run = there.open_run(name="theirs", experiment=lab, tags={})
    there._client.create_registered_model("best")
    there._client.create_model_version("best", f"runs:/{run.run_id}/model", run.run_id)
    with pytest.raises(LabError, match=r"'best' has another version 1 on the server\. Rename one"):
        target.import_home(home)
    there._client.delete_experiment(lab)
    with pytest.raises(
        LabError, match=r"'lab' was deleted on the server\. Restore it .* Nothing was imported"
    ):
        target.import_home(home)


def test_runs_of_an_earlier_mlflow_are_brought_to_the_present_version(tmp_path: Path, target: Target) -> None:
    home = tmp_path / ".lab"
    home.mkdir()
    older = sa.create_engine(f"sqlite:///{home}/mlflow.db", poolclass=sa.NullPool)
    revision = earlier_mlflow(older)
    folder = home / "artifacts" / "old one"
    with older.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, workspace)"
                " VALUES (7, 'old one', :at, 'active', 'default')"
            ),
            {"at": folder.as_uri()},
        )
        connection.execute(
            sa.text(
                "INSERT INTO runs (run_uuid, name, source_type, status, start_time, lifecycle_stage, artifact_uri,"
                " experiment_id) VALUES ('aa', 'old', 'LOCAL', 'FINISHED', 1, 'active', :at, 7)"
            ),
            {"at": (folder / "aa" / "artifacts").as_uri()},
        )
    (folder / "aa" / "artifacts").mkdir(parents=True)
    (folder / "aa" / "artifacts" / "note.txt").write_text("kept")
    imported = target.import_home(home)
    assert (imported.studies, imported.runs, imported.files) == ((), 1, 1)
    assert content(target.database, "SELECT artifact_uri, experiment_id FROM runs") == [
        ("mlflow-artifacts:/old_one/aa/artifacts", "7")
    ]
    assert (target.artifacts / "old_one" / "aa" / "artifacts" / "note.txt").read_text() == "kept"
    # the original is as it was
    assert content(f"sqlite:///{home}/mlflow.db.imported", "SELECT version_num FROM alembic_version") == [
        (revision,)
    ]


def earlier_mlflow(engine: sa.Engine) -> str:
    """Create the tables of MLflow's database as they were some versions ago; return their revision."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

    settings: Any = utils._get_alembic_config(str(engine.url))  # type: ignore[no-untyped-call]
    revision = [each.revision for each in ScriptDirectory.from_config(settings).walk_revisions()][10]
    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
    return str(revision)
