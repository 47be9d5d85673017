"""The trials of a study and their curves as flat tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from lab.report import curve_table, trial_table, without_formulas


def test_settings_are_numbers_where_all_values_are(memory_study: Any) -> None:
    study = memory_study(["lr", "patience"])
    good = study.trial({"lr": 1e-3, "patience": "none"}, best_value=0.9, tags={"lab.trial": "1"})
    poor = study.trial({"lr": 0.1, "patience": 5}, "diverged", best_value=0.1, tags={"lab.trial": "0"})
    found = trial_table(study.board(repeats="each"), study.runs())
    assert found["run_id"].tolist() == [good, poor]
    assert found[["rank", "trial", "outcome"]].values.tolist() == [[1, 1, "completed"], [2, 0, "diverged"]]
    assert found["params.lr"].tolist() == [0.001, 0.1]
    assert found["params.patience"].tolist() == ["none", "5"]
    assert found["metrics.best_value"].tolist() == [0.9, 0.1]
    assert found["error"].isna().all()
    assert list(found)[:3] == ["rank", "run_id", "name"]


def test_curves_have_a_row_for_each_point_and_facts_have_none(memory_study: Any) -> None:
    study = memory_study(["lr"])
    run_id = study.trial({"lr": 0.1}, best_value=0.5, tags={"lab.trial": "7"})
    run = study.tracker.attach(run_id)
    run.log_history({1: {"val_loss": 2.0}, 2: {"val_loss": 1.0, "system/cpu": 3.0}})
    points = curve_table(study.tracker, trial_table(study.board(repeats="each"), study.runs()))
    assert list(points) == ["run_id", "name", "trial", "metric", "step", "value"]
    assert points.values.tolist() == [
        [run_id, "lr=0.1", 7, "val_loss", 1, 2.0],
        [run_id, "lr=0.1", 7, "val_loss", 2, 1.0],
    ]


def test_a_hash_that_looks_like_a_number_stays_a_text(memory_study: Any) -> None:
    study = memory_study(("lr",))
    study.trial(
        {"lr": 0.1}, tags={"lab.cell": "0123e45678901234", "lab.trial": "7", "lab.error": "404"}, best_value=1
    )
    found = trial_table(study.board(repeats="each"), study.runs()).iloc[0]
    assert (found["cell"], found["error"], found["trial"]) == ("0123e45678901234", "404", 7)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("data_digest", ["0012345678901234"]),
        ("code_digest", ["12e4567890123456", "1234567890123456"]),
        ("init_from", ["1234"]),
        ("theirs", ["007", "8"]),  # of another program
        ("theirs", ["12e4567890123456"]),
        ("theirs", ["0.12345678901234567890123"]),
    ],
)
def test_a_text_that_no_number_can_stand_for_stays_one(name: str, texts: list[str]) -> None:
    runs = pd.DataFrame({"run_id": range(len(texts)), "rank": 1, "name": "a", f"params.{name}": texts})
    runs = runs.assign(status="FINISHED", start_time=pd.NaT, end_time=pd.NaT)
    assert (
        trial_table(runs[["rank", "run_id"]], runs.drop(columns="rank"))[f"params.{name}"].tolist() == texts
    )


def test_numbers_of_any_form_are_numbers() -> None:
    runs = pd.DataFrame(
        {"run_id": range(6), "rank": 1, "name": "a", "status": "", "start_time": 0, "end_time": 0}
    )
    runs["params.theirs"] = ["1e-3", "0.10", "-5", "+2", "inf", None]
    found = trial_table(runs[["rank", "run_id"]], runs.drop(columns="rank"))["params.theirs"]
    assert found.dropna().tolist() == [0.001, 0.1, -5, 2, float("inf")]


def test_no_spreadsheet_computes_a_text() -> None:
    texts = ["=cmd|'/C calc'!A0", "+1+1", "-a", "@SUM(1)", "\t=1", "-0.5", "+1e-3", "-inf", "a=1", "", None]
    frame = pd.DataFrame({"text": texts, "number": range(-5, 6)})
    written = without_formulas(frame)
    assert written["text"].tolist()[:5] == [f"'{text}" for text in texts[:5]]
    pd.testing.assert_frame_equal(written[5:], frame[5:])
    pd.testing.assert_series_equal(written["number"], frame["number"])
