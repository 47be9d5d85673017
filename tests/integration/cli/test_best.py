"""`lab best`, and what other commands say of the same study."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd


def test_a_finished_study(swept: Any) -> None:
    lab = swept
    assert "tiny: 3 complete; best val_accuracy 0." in lab("status", "tiny").stdout
    status = json.loads(lab("status", "tiny", "--format", "json").stdout)
    assert (status["name"], status["states"], status["running"]) == ("tiny", {"complete": 3}, [])

    board = json.loads(lab("best", "tiny", "--format", "json").stdout)
    values = [row["best_value"] for row in board]
    assert values == sorted(values, reverse=True)
    assert status["best_value"] == values[0]
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--format", "csv").stdout)))
    assert [row["run_id"] for row in rows] == [row["run_id"] for row in board]
    assert json.loads(lab("best", "tiny", "--each", "--format", "json").stdout) == board
    losses = json.loads(lab("best", "tiny", "--metric", "test_loss", "--top", "2", "--format", "json").stdout)
    assert len(losses) == 2
    two = lab("best", "tiny", "--top", "2", "--format", "csv")
    assert len(two.stdout.splitlines()) == 3
    assert two.stderr == "Not shown: 1 further row; --top 3 shows all\n"
    assert "Not shown: 1 further row; --top 3 shows all\n" in lab("best", "tiny", "--top", "2").stdout
    assert losses[0]["test_loss"] <= losses[1]["test_loss"]

    text = lab("best", "tiny").stdout
    assert f"mlflow.set_tracking_uri('sqlite:///{lab.home}/.lab/mlflow.db')" in text
    assert f"runs:/{board[0]['run_id']}/model" in text
    for command in ("status", "best"):
        result = lab(command, "tinny")
        assert "There is no study 'tinny'. Did you mean 'tiny'?" in result.stderr
        assert result.exit_code == 1
    result = lab("best", "tiny", "--metric", "accurracy")
    assert "No trial of tiny has a metric 'accurracy'" in result.stderr


def test_a_smoke_run_stays_apart(lab: Any) -> None:
    assert lab("sweep", "tiny.yaml", "--workers", "1", "--set", "epochs=1").exit_code == 0
    planned = lab("submit", "tiny.yaml")  # the file as it is, not trained yet
    assert planned.exit_code == 0
    nothing = lab("best", "tiny").stdout
    assert "No trial of tiny with the settings of its newest file has started yet" in nothing
    left_out = "Not shown: 3 trials from earlier files or with other settings (epochs=1)"
    assert f"{left_out}; include them with: lab best tiny --all" in nothing
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--all", "--format", "csv").stdout)))
    assert len(rows) == 3
    assert json.loads(lab("effects", "tiny", "--format", "json").stdout) == []
    swept = lab("sweep", "tiny.yaml", "--workers", "1").stdout
    assert "Not shown: 3 trials" in swept
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--all", "--format", "csv").stdout)))
    assert sorted(row["epochs"] for row in rows) == ["1"] * 3 + ["2"] * 3
    result = lab("best", "tiny", "--format", "csv")
    board = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["epochs"] for row in board] == ["2"] * 3
    assert f"({board[0]['name']})" in lab("status", "tiny").stdout
    assert "Not shown: 3 trials" in result.stderr
    assert lab("effects", "tiny", "--all").stdout.count("epochs") == 1


def test_a_study_is_exported_with_its_curves(swept: Any) -> None:
    lab = swept
    trials, curves = lab.home / "trials.csv", lab.home / "curves.parquet"
    assert lab("export", "tiny", "--format", "csv", "--out", trials).stdout == f"Wrote {trials}: 3 trials\n"
    board = json.loads(lab("best", "tiny", "--format", "json").stdout)
    found = pd.read_csv(trials)
    assert found["run_id"].tolist() == [row["run_id"] for row in board]
    assert found["metrics.best_value"].tolist() == [row["best_value"] for row in board]
    said = lab("export", "tiny", "--format", "parquet", "--curves", "--out", curves).stdout
    points = pd.read_parquet(curves)
    assert said == f"Wrote {curves}: {len(points)} points\n"
    first = points[(points["run_id"] == board[0]["run_id"]) & (points["metric"] == "val_loss")]
    assert dict(zip(first["step"], first["value"], strict=True)) == lab.tracker.history(
        board[0]["run_id"], "val_loss"
    )
    for arguments, code, message in [
        (["tinny", "--format", "csv", "--out", "x"], 1, "There is no study 'tinny'. Did you mean 'tiny'?"),
        (
            ["tinny", "--format", "csv", "--out", "no/such/x.csv"],  # before anything is looked up
            2,
            "--out no/such/x.csv: there is no folder no/such; create it, or write to another one",
        ),
        (["tiny", "--format", "pt2", "--curves", "--out", "x"], 2, "--curves is about the trials of a study"),
    ]:
        result = lab("export", *arguments)
        assert (result.exit_code, message in result.stderr) == (code, True)
