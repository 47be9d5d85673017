from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab.errors import TrackingError
from lab.report import effects, leaderboard, publish_leaderboard, setting_of
from lab.report.sections.board import board
from lab.tracking import MemoryTracker, RunStatus
from tests.memory_study import MemoryStudy


class Study:
    """A study in memory with a parent run, to which trials are added."""

    def __init__(self, direction: str = "maximize", varied: tuple[str, ...] = ("lr", "depth")) -> None:
        self.tracker = MemoryTracker()
        self.experiment = self.tracker.experiment("digits")
        tags = {
            "lab.study": "s",
            "lab.kind": "study",
            "lab.varied": json.dumps(varied),
            "lab.direction": direction,
        }
        self.parent = self.tracker.open_run(name="s", experiment=self.experiment, tags=tags)

    def trial(
        self,
        name: str,
        best: float | None,
        *,
        outcome: str = "completed",
        number: int | None = None,
        **metrics: float,
    ) -> str:
        tags = {"lab.study": "s", "lab.kind": "trial", "lab.outcome": outcome}
        tags |= {} if number is None else {"lab.trial": str(number)}
        run = self.tracker.open_run(name=name, experiment=self.experiment, tags=tags)
        run.log_params({"lr": f"0.{len(name)}", "depth": "2", "epochs": "9"})
        run.log_metrics(metrics if best is None else {"best_value": best, **metrics})
        run.end(RunStatus.FINISHED)
        return run.run_id

    def board(self, **options: Any) -> pd.DataFrame:
        return leaderboard(self.tracker, self.experiment, study="s", **options)


def test_best_first_by_the_direction() -> None:
    for direction, expected in (("maximize", ["c", "b", "a"]), ("minimize", ["a", "b", "c"])):
        study = Study(direction)
        for name, best in {"a": 0.1, "c": 0.9, "b": 0.5}.items():
            study.trial(name, best)
        assert study.board()["name"].tolist() == expected
        assert study.board(top=2)["rank"].tolist() == [1, 2]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_has_no_value_comes_last(direction: str) -> None:
    study = Study(direction)
    study.trial("z failed", None, outcome="failed")
    study.trial("y nan", math.nan, outcome="diverged")
    study.trial("x infinite", math.inf)
    study.trial("w diverged", 0.99 if direction == "maximize" else 0.01, outcome="diverged")
    study.trial("good", 0.5)
    assert study.board()["name"].tolist()[0] == "good"
    assert set(study.board()["name"].tolist()[1:]) == {"w diverged", "x infinite", "y nan", "z failed"}


def test_equals_are_ordered_by_parameters_then_number_and_never_by_the_test_split() -> None:
    study = Study()
    for number, (name, parameters) in {10: ("d", 10), 9: ("c", 10), 2: ("b", 5), 0: ("a", 20)}.items():
        study.trial(name, 0.5, number=number, params=parameters, test_accuracy=number / 10)
    assert study.board()["name"].tolist() == ["b", "c", "d", "a"]


@pytest.mark.parametrize("outcome", ["pruned", "failed", "killed", "diverged"])
def test_what_did_not_come_to_its_end_never_wins(outcome: str) -> None:
    study = Study()
    study.trial("cut short", 0.9, outcome=outcome)
    study.trial("good", 0.5)
    assert study.board()["name"].tolist() == ["good", "cut short"]


def test_runs_that_no_trial_names_are_left_out_and_counted() -> None:
    study = Study()
    study.trial("of a study that was deleted", 0.9)
    named = study.trial("mine", 0.5)
    board = study.board(named={named})
    assert (board["name"].tolist(), board.attrs["orphans"]) == (["mine"], 1)
    assert study.board().attrs["left_out"] == 0
    assert study.board(named=set()).empty


def test_columns() -> None:
    study = Study()
    study.trial("a", 0.5, test_accuracy=0.75, best_epoch=3, epochs=8, params=1234, seconds=1.5)
    study.trial("bb", None, outcome="failed")
    board = study.board()
    assert board.columns.tolist() == [
        *("rank", "name", "lr", "depth", "best_value", "test_accuracy"),
        *("best_epoch", "epochs", "params", "seconds"),
        *("accuracy_per_million_params", "pareto", "outcome", "run_id"),
    ]
    first = board.iloc[0]
    assert (first["lr"], first["depth"], first["params"], first["epochs"]) == ("0.1", "2", 1234, 8)
    assert first["accuracy_per_million_params"] == pytest.approx(0.75 / 0.001234)
    assert board["pareto"].tolist() == [True, False]
    assert pd.isna(board.iloc[1]["best_epoch"])
    assert study.board(metric="test_accuracy").columns.tolist() == board.columns.tolist()
    assert "test_loss" in study.board(metric="test_loss")


def test_a_varied_field_named_like_a_metric_is_the_param() -> None:
    study = Study(varied=("epochs",))
    study.trial("a", 0.5, epochs=3)
    assert study.board().iloc[0]["epochs"] == "9"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        *((name, f"params.{name}") for name in ("rank", "run_id", "params", "seconds", "test_accuracy", "n")),
        *(
            (name, f"params.{name}")
            for name in ("best_value", "outcome", "pareto", "name", "best_epoch", "cell")
        ),
        *((name, f"params.{name}") for name in ("mult_adds", "params.rank", "accuracy_per_million_params")),
        *((name, name) for name in ("epochs", "lr", "value")),
    ],
)
def test_a_dimension_named_like_a_column_has_a_column_of_its_own(name: str, column: str) -> None:
    study = MemoryStudy((name, "seed"))
    measured = {"params": 100, "best_epoch": 2, "epochs": 3, "seconds": 5.0, "mult_adds": 50}
    for value, accuracy in (("4", 0.5), ("6", 0.7)):
        for seed in (0, 1, 2):
            metrics = {"best_value": accuracy, "test_accuracy": accuracy, **measured}
            study.trial({name: value, "seed": seed}, **metrics)
    trials, cells = study.board(repeats="each"), study.board()
    assert trials["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    shown = cells[[column, "best_value", "n", "params"]].round({"best_value": 6})
    assert shown.to_numpy().tolist() == [["6", 0.7, 3, 100], ["4", 0.5, 3, 100]]
    assert cells.attrs["varied"] == [column, "seed"]
    assert [setting_of(name) for name in cells.attrs["varied"]] == study.varied
    assert effects(trials, trials.attrs["varied"])["value"].tolist() == ["6", "4"]
    assert [row.values for row in board(study.source()).rows] == [{column: "6"}, {column: "4"}]


def test_a_dimension_named_like_the_metric_is_not_ranked_by() -> None:
    study = MemoryStudy(("score",))
    for value, score in (("high", 0.1), ("low", 0.2)):
        run = study.trial({"score": value}, best_value=0.5)
        study.tracker.attach(run).log_metrics({"score": score})
    assert study.board(metric="score")[["params.score", "score"]].to_numpy().tolist() == [
        ["low", 0.2],
        ["high", 0.1],
    ]


def test_other_studies_are_not_shown() -> None:
    study = Study()
    study.trial("mine", 0.5)
    tags = {"lab.study": "other", "lab.kind": "trial"}
    study.tracker.open_run(name="other", experiment=study.experiment, tags=tags)
    assert study.board()["name"].tolist() == ["mine"]


def test_study_without_trials() -> None:
    board = Study().board()
    assert board.empty
    assert "lr" in board


def test_unknown_study() -> None:
    with pytest.raises(TrackingError, match="There is no study 'nope' in the experiment"):
        leaderboard(Study().tracker, "1", study="nope")


def test_published_as_table_and_csv(tmp_path: Path) -> None:
    study = Study()
    study.trial("a, b", 0.5, params=7)
    study.trial("c", None, outcome="failed")
    published = publish_leaderboard(study.parent, study.board(repeats="each"))
    assert published.equals(study.board())
    artifacts = study.tracker.artifacts(study.parent.run_id)
    table = json.loads(artifacts["leaderboard.json"])
    assert table["columns"][:3] == ["rank", "name", "lr"]
    assert [row[1] for row in table["data"]] == ["a, b", "c"]
    (tmp_path / "l.csv").write_bytes(artifacts["leaderboard.csv"])
    assert pd.read_csv(tmp_path / "l.csv")["name"].tolist() == ["a, b", "c"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_lowest_loss_and_the_highest_accuracy_are_the_best(direction: str) -> None:
    study = Study(direction)
    study.trial("a", 0.5, test_loss=0.1, test_accuracy=0.2)
    study.trial("b", 0.4, test_loss=0.3, test_accuracy=0.9)
    assert study.board(metric="test_loss")["name"].tolist() == ["a", "b"]
    assert study.board(metric="test_accuracy")["name"].tolist() == ["b", "a"]
    assert study.board().attrs["monitor"] == "val_accuracy"


def test_chosen_metrics_are_columns_and_know_which_value_is_best(memory_study: Any) -> None:
    study = memory_study(["lr", "seed"])
    for seed, auroc in enumerate((0.8, 0.9)):
        params = {"lr": 0.1, "seed": seed, "metrics": "auroc,ece"}
        study.trial(params, best_value=0.5, test_accuracy=0.5, test_auroc=auroc, test_ece=0.1)
    params = {"lr": 0.2, "seed": 0, "metrics": "auroc,ece"}
    study.trial(params, best_value=0.4, test_accuracy=0.4, test_auroc=0.7, test_ece=0.05)
    study.trial({"lr": 0.3, "seed": 0, "metrics": "none"}, best_value=0.3, test_accuracy=0.3)
    board = study.board()
    assert [name for name in board if name.startswith("test_")] == [
        *("test_accuracy", "test_ci95_low", "test_ci95_high", "test_n", "test_best", "test_worst"),
        *("test_auroc", "test_ece"),
    ]
    assert board["test_auroc"].tolist()[:2] == pytest.approx([0.85, 0.7])
    assert study.board(metric="test_ece")["lr"].tolist() == ["0.2", "0.1", "0.3"]
    assert study.board(metric="test_auroc")["lr"].tolist() == ["0.1", "0.2", "0.3"]
