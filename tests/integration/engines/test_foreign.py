"""Runs of other programs, imported and read like one's own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from lab.engines import Stores, import_runs, load_study, study_board, write_report
from lab.engines.leaderboards import read_study
from lab.errors import ConfigError, StudyError, TrackingError
from lab.tracking import connect
from tests.once import copy_of
from tests.stores import stores_in


@pytest.fixture
def stores(tmp_path: Path, fresh_databases: Path) -> Stores:
    copy_of(fresh_databases, tmp_path / ".lab")
    return stores_in(tmp_path / ".lab")


def test_a_study_of_plain_optuna_is_imported_once(stores: Stores, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    study = optuna.create_study(study_name="theirs", storage=url, direction="minimize")
    for lr in (0.5, 0.1):
        study.enqueue_trial({"lr": lr, "kind": "a"})

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 0, 1)
        trial.report(2 * lr, 1)
        trial.set_user_attr("seconds", float("inf"))
        trial.suggest_categorical("kind", ["a", "b"])
        return lr

    study.optimize(objective, n_trials=2)
    before = (tmp_path / "theirs.db").read_bytes()
    found = import_runs(f"optuna:{url}", stores)
    assert (found.study, found.added, found.known) == ("theirs", 2, 0)
    assert (tmp_path / "theirs.db").read_bytes() == before
    study.optimize(objective, n_trials=1)
    found = import_runs(f"optuna:{url}#theirs", stores)
    assert (found.added, found.known) == (1, 2)
    board = read_study("theirs", stores).board(repeats="each")
    assert sorted(board["best_value"]) == board["best_value"].tolist()
    assert board["best_value"].tolist() == pytest.approx(board["lr"].astype(float).tolist())
    assert study_board("theirs", stores).best_run is None  # there is no model to load
    tracker = connect(stores.tracking_uri)
    assert list(tracker.history(board["run_id"].iloc[0], "reported")) == [1]
    assert board["seconds"].isna().all()
    with pytest.raises(StudyError, match=r"no study 'their' at .*Did you mean 'theirs'\? It has theirs"):
        import_runs(f"optuna:{url}#their", stores)
    with pytest.raises(StudyError, match="There is no database at"):
        import_runs("optuna:sqlite:///none.db", stores)
    with pytest.raises(StudyError, match=r"There is no study 'theirs'"):
        load_study("theirs", stores)  # it is no study that could be trained


def test_the_database_of_another_program_is_left_as_it_is(stores: Stores, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE customers (name TEXT)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(StudyError, match=r"other\.db is no database of Optuna's: it has no table of studies"):
        import_runs(f"optuna:sqlite:///{file}", stores)
    assert file.read_bytes() == before


@pytest.mark.parametrize("given", [{"monitor": "loss"}, {"metrics": ["loss"]}, {"maximize": False}])
def test_a_study_of_optuna_says_itself_what_it_optimizes(stores: Stores, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="are about a CSV file; a study of Optuna says itself"):
        import_runs("optuna:sqlite:///theirs.db", stores, **given)


def test_runs_that_were_trained_here_are_left_alone(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("metrics.best_value,params.lr\n0.5,0.1\n")
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    tracker.open_run(name="own", experiment=tracker.experiment("own"), tags={"lab.kind": "trial"})
    with pytest.raises(TrackingError, match=r"'own' has 1 run that lab trained; .* --name"):
        import_runs(str(tmp_path / "own.csv"), stores)
    assert import_runs(str(tmp_path / "own.csv"), stores, name="other").added == 1


def test_a_study_without_a_finite_value_is_told_so(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(
        "metrics.best_value,metrics.loss,params.lr,status\n,0.1,0.1,FAILED\nnan,0.2,0.2,FINISHED\nnan,0.2,0.3,FAILED\n"
    )
    import_runs(str(tmp_path / "bad.csv"), stores)
    with pytest.raises(
        StudyError,
        match=r"^No trial of bad has a finite best_value: 2 failed, 1 completed; `lab report bad` shows how each",
    ):
        read_study("bad", stores).board("best_value")
    write_report(["bad"], stores, tmp_path / "bad.html")
    page = (tmp_path / "bad.html").read_text(encoding="utf-8")
    assert (page.count(">failed</td>"), page.count(">completed</td>")) == (
        3,
        1,
    )  # a row each, and why they failed
    with pytest.raises(
        StudyError,
        match=r"^No trial of bad has a metric 'accuracy' yet\. Use best_value or any metric that its runs",
    ):
        read_study("bad", stores).board("accuracy")
    with pytest.raises(StudyError, match=r"has a metric 'los' yet\. Did you mean 'loss'\?$"):
        study_board("bad", stores, "los")  # which reads only the metrics that it shows


def test_percents_are_divided(stores: Stores, tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text("params.lr,metrics.accuracy\n0.1,93.5\n0.2,50\n")
    assert import_runs(str(file), stores, percent=["accuracy"]).added == 2
    assert read_study("theirs", stores).board()["best_value"].tolist() == [0.935, 0.5]
    assert import_runs(str(file), stores, percent=["accuracy"]).known == 2
