from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

from lab.report import publish_leaderboard
from lab.report.render import spread
from lab.report.repeats import outcome_counts


@pytest.fixture
def repeated(memory_study: Any) -> Any:
    """Two cells with three seeds: `a` has the higher mean, `b` the best value."""
    study = memory_study(("net", "seed"))
    for seed, (a, b) in enumerate([(0.8, 0.1), (0.75, 0.9), (0.85, 0.5)]):
        study.trial({"net": "a", "seed": seed}, best_value=a, test_accuracy=a, params=100, seconds=2)
        study.trial({"net": "b", "seed": seed}, best_value=b, test_accuracy=b, best_epoch=seed**2, params=50)
    return study


def test_cells_by_their_means(repeated: Any) -> None:
    board = repeated.board()
    assert board.columns.tolist() == [
        *("rank", "name", "net", "best_value", "ci95_low", "ci95_high", "n", "best", "worst"),
        *("test_accuracy", "test_ci95_low", "test_ci95_high", "test_n", "test_best", "test_worst"),
        *("best_epoch", "epochs", "params", "seconds", "accuracy_per_million_params", "pareto"),
        *("outcome", "run_id"),
    ]
    assert board["name"].tolist() == ["net=a", "net=b"]
    assert board["best_value"].tolist() == pytest.approx([0.8, 0.5])
    assert board["best"].tolist() == [0.85, 0.9]
    assert board["n"].tolist() == [3, 3]
    half = 4.302653 * 0.05 / math.sqrt(3) / (0.8 * 0.2)  # on the logit scale
    low, high = (1 / (1 + math.exp(-(math.log(4) + sign * half))) for sign in (-1, 1))
    assert board[["ci95_low", "ci95_high"]].iloc[0].tolist() == pytest.approx([low, high])
    assert board["worst"].tolist() == board["test_worst"].tolist() == [0.75, 0.1]
    assert board["best_epoch"].iloc[1] == 1  # the median
    assert board["pareto"].tolist() == [True, True]
    assert board["outcome"].tolist() == ["completed", "completed"]


def test_the_spread_of_tests_is_that_of_the_repeats_that_were_tested(memory_study: Any) -> None:
    study = memory_study(("net", "seed"))
    study.trial({"net": "a", "seed": 0}, best_value=0.5, test_accuracy=0.6)
    study.trial({"net": "a", "seed": 1}, best_value=0.7)
    row = study.board().iloc[0]
    assert spread("val_accuracy", row) == "n=2: 50.00%, 70.00%"
    assert spread("test_accuracy", row, "test_") == ""


def test_the_run_is_that_of_the_best_repeat(repeated: Any) -> None:
    each = repeated.board(repeats="each")
    assert len(each) == 6
    assert "seed" in each
    best = each.drop_duplicates("net").set_index("net")["run_id"]
    board = repeated.board().set_index("net")["run_id"]
    assert board.to_dict() == best.to_dict()


def test_a_metric_of_ones_own(memory_study: Any) -> None:
    study = memory_study(("net", "seed"))
    for net, losses in {"a": (1.0, 3.0), "b": (2.1, 2.1)}.items():
        for seed, loss in enumerate(losses):
            study.trial({"net": net, "seed": seed}, best_value=0.5, test_loss=loss)
    board = study.board(metric="test_loss")
    assert board["net"].tolist() == ["a", "b"]
    assert board["test_loss"].tolist() == pytest.approx([2.0, 2.1])


def test_what_diverged_is_no_part_of_the_mean(memory_study: Any) -> None:
    study = memory_study(("lr", "seed"))
    study.trial({"lr": 1, "seed": 0}, best_value=0.9)
    study.trial({"lr": 1, "seed": 1}, "diverged", best_value=0.1)
    study.trial({"lr": 1, "seed": 2}, "failed")
    study.trial({"lr": 2, "seed": 0}, "diverged", best_value=0.95)
    board = study.board()
    assert board["best_value"].tolist() == [0.9, 0.95]
    assert board["n"].tolist() == [1, 1]
    assert board["outcome"].tolist() == ["1 completed, 1 diverged, 1 failed", "diverged"]


@pytest.mark.parametrize("varied", [("seed",), ("net",), ()])
def test_without_cells_to_repeat_every_trial_is_a_row(memory_study: Any, varied: tuple[str, ...]) -> None:
    study = memory_study(varied)
    for seed in range(3):
        study.trial({"net": seed, "seed": seed}, best_value=0.5)
    assert len(study.board()) == 3
    assert "ci95_low" not in study.board()


def test_a_dimension_that_is_not_part_of_every_cell(memory_study: Any) -> None:
    study = memory_study(("optimizer", "momentum", "seed"))
    for seed in range(2):
        study.trial({"optimizer": "adam", "seed": seed}, best_value=0.5)
        study.trial({"optimizer": "sgd", "momentum": 0.9, "seed": seed}, best_value=0.6)
    assert study.board()["momentum"].tolist()[0] == "0.9"
    assert pd.isna(study.board()["momentum"].iloc[1])
    assert study.board()["n"].tolist() == [2, 2]


def test_published_by_cells_with_effects_of_all_trials(repeated: Any) -> None:
    frame = publish_leaderboard(repeated.parent, repeated.board(repeats="each"))
    assert frame.equals(repeated.board())
    artifacts = repeated.tracker.artifacts(repeated.parent.run_id)
    assert len(json.loads(artifacts["leaderboard.json"])["data"]) == 2
    table = json.loads(artifacts["effects.json"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["dimension"], row["value"], row["n"]) for row in rows] == [("net", "a", 3), ("net", "b", 3)]


def test_outcomes_are_counted_the_most_frequent_first() -> None:
    outcomes = pd.Series(["failed", "completed", None, "completed"])
    assert list(outcome_counts(outcomes).items()) == [("completed", 2), ("failed", 1), ("unfinished", 1)]


def test_cells_are_averaged_over_folds_and_seeds(memory_study: Any) -> None:
    study = memory_study(("fold", "net", "seed"))
    for net, values in {"a": (0.5, 0.6, 0.7, 0.8), "b": (0.5, 0.5, 0.5, 0.5)}.items():
        for at, value in enumerate(values):
            study.trial({"fold": at // 2, "net": net, "seed": at % 2}, best_value=value)
    board = study.board()
    assert board["name"].tolist() == ["net=a", "net=b"]
    assert board["best_value"].tolist() == pytest.approx([0.65, 0.5])
    assert board["n"].tolist() == [4, 4]
    assert not {"fold", "seed"} & set(board.columns)
    assert len(study.board(repeats="each")) == 8


def test_folds_alone_are_averaged_too_because_only_their_mean_is_a_result(memory_study: Any) -> None:
    study = memory_study(("fold",))
    for fold, value in enumerate((0.5, 0.6, 0.7)):
        study.trial({"fold": fold}, best_value=value)
    board = study.board()
    assert board["name"].tolist() == ["all folds"]
    assert board["best_value"].tolist() == pytest.approx([0.6])
    assert board["n"].tolist() == [3]
