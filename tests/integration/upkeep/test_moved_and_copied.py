"""A moved project takes its files along; a copied one has its own and leaves the original alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from lab.engines import Stores
from lab.errors import LabWarning, TrackingError
from lab.restore import restore_config
from lab.study import TrialQueue, open_storage, open_study
from lab.tracking import JournaledTracker, RunStatus, Tracker, UnavailableError, connect, left
from lab.tracking.fenced import FencedRun
from lab.upkeep import find_garbage

REPOSITORY = Path(__file__).parents[3]


class Project:
    """A folder with a run that was deleted in MLflow, one that was not, and a model of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder / ".lab"
        self.stores = Stores(
            f"sqlite:///{home}/optuna.db",
            f"sqlite:///{home}/mlflow.db",
            home / "artifacts",
            home / "checkpoints",
            home / "journal",
        )

    @property
    def tracker(self) -> Tracker:
        return connect(self.stores.tracking_uri, self.stores.artifact_dir)

    def fill(self) -> None:
        tracker: Any = self.tracker
        experiment = tracker.experiment("tiny")
        for name in ("kept", "deleted"):
            tags = {"lab.kind": "trial", "lab.device": "cpu"}
            run = tracker.open_run(name=name, experiment=experiment, tags=tags)
            run.log_text("lr: 0.1\n", "config.yaml")
            run.end(RunStatus.FINISHED)
            model = tracker._client.create_logged_model(experiment, "model", run.run_id)
            (self.folder / "MLmodel").write_text(name)
            tracker._client.log_model_artifact(model.model_id, str(self.folder / "MLmodel"))
            tracker._client.finalize_logged_model(model.model_id, "READY")
        tracker._client.delete_run(run.run_id)

    def run(self, name: str) -> str:
        tracker = self.tracker
        rows = tracker.deleted_runs() if name == "deleted" else tracker.runs(tracker.find_experiment("tiny"))
        return str(rows[rows["name"] == name].iloc[0]["run_id"])

    def places(self) -> list[Path]:
        return [
            Path(place.uri) for name in ("kept", "deleted") for place in self.tracker.places(self.run(name))
        ]

    def files(self) -> dict[str, bytes]:
        folder = self.stores.artifact_dir
        return {
            str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }


@pytest.fixture
def original(tmp_path: Path, fresh_databases: Path) -> Project:
    (tmp_path / "original" / ".lab").mkdir(parents=True)
    for file in fresh_databases.glob("*.db"):
        shutil.copy(file, tmp_path / "original" / ".lab")
    project = Project(tmp_path / "original")
    project.fill()
    return project


def copied(project: Project, name: str) -> Project:
    folder = project.folder.with_name(name)
    shutil.copytree(project.folder, folder)
    return Project(folder)


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "of an earlier version"])
def test_a_copy_has_its_own_files_and_gc_deletes_only_those(
    original: Project, lab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    if not marked:
        (original.folder / ".lab/mlflow.db.place").unlink()
    copy, before = copied(original, "copy"), original.files()
    monkeypatch.chdir(copy.folder)
    result = lab("gc", "--older-than", 0, "--delete")
    assert f"{copy.folder} is a copy of {original.folder}" in result.stderr
    assert original.files() == before
    assert len(copy.files()) == len(before) - 2  # config and model of the deleted run
    assert all(place.is_relative_to(copy.folder) for place in copy.places())
    assert all(place.is_relative_to(original.folder) for place in original.places())
    again = lab("gc", "--older-than", 0)
    assert (again.stderr, again.stdout) == ("", "Nothing to delete that is older than 0 days\n")
    run = copy.tracker.open_run(name="new", experiment=copy.tracker.experiment("tiny"), tags={})
    run.log_text("mine", "note.txt")
    assert original.files() == before


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "of an earlier version"])
def test_a_moved_project_finds_its_files(original: Project, marked: bool) -> None:
    if not marked:
        (original.folder / ".lab/mlflow.db.place").unlink()
    moved = Project(original.folder.with_name("moved with spaces"))
    before = original.files()
    original.folder.rename(moved.folder)
    with pytest.warns(LabWarning, match=f"{original.folder} is now {moved.folder}"):
        tracker = moved.tracker
    assert restore_config(tracker, moved.run("kept")).lr == 0.1
    assert all(place.is_relative_to(moved.folder) and place.exists() for place in moved.places())
    assert moved.files() == before


def test_many_processes_that_open_a_copy_at_once_move_it_once(original: Project) -> None:
    copy = copied(original, "copy")
    code = (
        "import sys; from pathlib import Path; from lab.tracking.rebase import follow; "
        f"print(follow({copy.stores.tracking_uri!r}, Path({str(copy.stores.artifact_dir)!r})))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate()[0].strip() for process in processes]
    assert [bool(each) for each in sorted(said)] == [False, False, False, True]
    assert all(place.is_relative_to(copy.folder) and place.exists() for place in copy.places())


def test_another_way_into_the_folder_and_a_shared_database_change_nothing(
    original: Project, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(original.folder)
    assert Project(tmp_path / "link").tracker.places(original.run("kept"))[0].own
    other = connect(original.stores.tracking_uri, tmp_path / "other" / "artifacts")  # of another project
    assert all(place.is_relative_to(original.folder) for place in original.places())
    run = original.run("deleted")
    assert not other.places(run)[0].own
    with pytest.raises(TrackingError, match=f"Nothing of run {run} was deleted"):
        other.delete_files(run)
    assert len(original.files()) == 4


def test_gc_says_what_it_leaves_alone(original: Project, tmp_path: Path, lab: Callable[..., Any]) -> None:
    stores = Stores(tracking_uri=original.stores.tracking_uri)  # from another working directory
    strange: list[str] = []
    assert not list(find_garbage(stores, days=0, on_strange=lambda run, place: strange.append(run)))
    assert strange == [original.run("deleted"), original.run("kept")]
    result = lab("gc", "--older-than", 0, "--delete", "--tracking-uri", stores.tracking_uri)
    assert "Left alone: the artifacts of 2 runs, for example" in result.stderr
    assert len(original.files()) == 4


def test_what_is_left_in_a_journal_goes_to_the_store_that_came_along(
    original: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(FencedRun, "put", away)
        journaled = JournaledTracker(original.tracker, original.stores.journal_dir)
        journaled.open_run(name="late", experiment="1", tags={}).log_params({"lr": "1"})
        (courier,) = journaled._couriers
        journaled._couriers.stop()
        courier.join(60)
    copy = copied(original, "copy")
    with pytest.warns(LabWarning, match="is a copy of"):
        connect(copy.stores.tracking_uri, copy.stores.artifact_dir, copy.stores.journal_dir)
    assert left(copy.stores.journal_dir, copy.stores.tracking_uri).runs == 1
    assert left(copy.stores.journal_dir, original.stores.tracking_uri).runs == 0
    assert left(original.stores.journal_dir, original.stores.tracking_uri).runs == 1


def test_running_trials_of_a_copy_are_its_own_to_train(original: Project) -> None:
    def running(project: Project) -> list[str]:
        queue = TrialQueue(open_storage(project.stores.storage), "tiny")
        return [trial.state.name for trial in (*queue.trials(), *queue.others())]

    storage = open_storage(original.stores.storage)
    queue, _ = open_study(storage, "tiny", ["maximize"])
    study = optuna.load_study(study_name="tiny", storage=storage)
    queue.draft("slot-0")
    study.ask()
    queue.note_trial(queue.trials()[0]._trial_id, "worker", "host:1:1.00")
    study.ask()  # of another program
    copy = copied(original, "copy")
    assert running(copy) == ["WAITING", "RUNNING"]
    assert running(original) == ["RUNNING", "RUNNING"]
    moved = copied(original, "moved")
    shutil.rmtree(original.folder)
    assert running(moved) == ["RUNNING", "RUNNING"]


def test_doctor_and_errors_tell_the_truth(
    original: Project, lab: Callable[..., Any], examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, check = original.run("kept"), "artifact locations"
    monkeypatch.chdir(original.folder)
    assert examined()[check]["verdict"] == "ok"
    copy = copied(original, "copy")
    monkeypatch.chdir(copy.folder)
    found = examined()[check]
    assert found["found"].startswith(f"{copy.folder} was copied from {original.folder}")
    assert examined()[check] == found  # it changes nothing
    assert lab("status").exit_code == 0
    assert examined()[check]["verdict"] == "ok"
    shutil.rmtree(copy.stores.artifact_dir)
    assert "do not exist" in examined()[check]["found"]
    result = lab("errors", run)
    assert result.exit_code == 1
    assert f"its artifacts are at {copy.stores.artifact_dir}" in result.stderr
    assert "which does not exist" in result.stderr
