from __future__ import annotations

import csv
import io
import json
from typing import Any


def test_before_there_is_a_study(bare_lab: Any) -> None:
    result = bare_lab("effects", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no study 'nope'. There are no studies yet" in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_a_finished_study(swept: Any) -> None:
    rows = json.loads(swept("effects", "tiny", "--format", "json").stdout)
    assert [row["dimension"] for row in rows] == ["lr", "lr", "activation", "activation"]
    counts = {(row["dimension"], row["value"]): (row["n"], row["left_out"]) for row in rows}
    assert counts == {
        ("lr", "0.01"): (1, 1),  # one of the four cells is excluded
        ("lr", "0.02"): (1, 0),
        ("activation", "relu"): (1, 1),
        ("activation", "tanh"): (1, 0),
    }
    board = json.loads(swept("best", "tiny", "--format", "json").stdout)
    assert {row["best"] for row in rows} <= {row["best_value"] for row in board}

    text = swept("effects", "tiny", "--metric", "test_loss", "--format", "csv").stdout
    losses = [float(row["mean"]) for row in csv.DictReader(io.StringIO(text))]
    assert losses[:2] == sorted(losses[:2])
    text = swept("effects", "tiny", "--metric", "test_accuracy").stdout
    assert "tiny: test_accuracy" in text
    assert "activation" in text
    assert "%" in text


def test_mistakes(swept: Any) -> None:
    result = swept("effects", "tinny")
    assert result.exit_code == 1
    assert "There is no study 'tinny'. Did you mean 'tiny'?" in result.stderr
    result = swept("effects", "tiny", "--metric", "accurracy")
    assert result.exit_code == 1
    assert "No trial of tiny has a metric 'accurracy'" in result.stderr
