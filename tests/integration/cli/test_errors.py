"""`lab errors`: a logged run's model, read back, evaluated and explained again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lab.tracking import Tracker
from lab.tracking.predictions import read_predictions

ARTIFACTS = (
    "confusion_matrix.png",
    "confusion_errors.png",
    "errors_per_class.png",
    "most_confused.png",
    "per_class.json",
    "errors/per_class.csv",
    "errors/confusion.csv",
    "errors/most_confused.json",
)
UNKNOWN = "0" * 32
TINY = "dataset: digits\ndepth: 1\nwidth: 4\nepochs: 1\nbatch_size: 256\nlr: 0.01\nthreads: 1\n"


@pytest.fixture
def trained(lab: Any) -> str:
    """The id of a run of digits that has learnt little, so that there is something to explain."""
    (lab.home / "config.yaml").write_text(TINY)
    assert lab("train", "--config", "config.yaml", "--experiment", "digits").exit_code == 0
    run_id: str = lab.runs("digits")["run_id"].iloc[0]
    return run_id


def texts(tracker: Tracker, run_id: str, folder: Path) -> dict[str, str]:
    """Return what the tables of a run say, by path; the figures are there if this does not fail."""
    found = {}
    for path in ARTIFACTS:
        file = tracker.download(run_id, path, folder / path.replace("/", "_"))
        assert file is not None, path
        found[path] = file.read_text() if file.suffix != ".png" else ""
    return found


def test_it_finds_again_what_training_logged(lab: Any, trained: str, tmp_path: Path) -> None:
    before = lab.runs("digits").iloc[0]
    logged = texts(lab.tracker, trained, tmp_path / "before")
    result = lab("errors", trained)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"accuracy {before['metrics.test_accuracy']:.2%} (95 % interval " in result.stdout
    assert texts(lab.tracker, trained, tmp_path / "after") == logged

    after = lab.runs("digits").iloc[0]
    for column in ("status", "start_time", "end_time", "metrics.test_macro_f1", "metrics.test_top5_accuracy"):
        assert after[column] == before[column], column
    rows = list(csv.reader(logged["errors/confusion.csv"].splitlines()))
    right, images = (
        sum(int(row[n]) for n, row in enumerate(rows) if n),
        sum(int(x) for r in rows[1:] for x in r[1:]),
    )
    assert right / images == pytest.approx(before["metrics.test_accuracy"])
    predictions = read_predictions(lab.tracker, trained)
    assert predictions is not None
    assert (predictions["label"] == predictions["predicted"]).sum() == right
    likeliest = predictions.filter(regex=r"^p_\d$").to_numpy().argmax(1)
    assert (likeliest == predictions["predicted"]).all()


def test_it_prints_the_worst_classes_and_the_most_confused_pairs(
    lab: Any, trained: str, tmp_path: Path
) -> None:
    result = lab("errors", trained, "--top", "3")
    pairs = json.loads(texts(lab.tracker, trained, tmp_path)["errors/most_confused.json"])
    classes, confused = result.stdout.split("Most confused")
    assert "the worst 3 of 10" in classes
    printed = [line.split()[:3] for line in confused.splitlines() if "%" in line]
    assert printed == [[pair["true"], pair["predicted"], str(pair["count"])] for pair in pairs[:3]]


@pytest.mark.parametrize("fixture", ["lab", "bare_lab"])
def test_an_unknown_run_is_one_clear_error(fixture: str, request: pytest.FixtureRequest) -> None:
    result = request.getfixturevalue(fixture)("errors", UNKNOWN)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("Error: ") == 1
    assert UNKNOWN in result.stderr


def test_a_run_that_is_not_labs(lab: Any) -> None:
    run = lab.tracker.open_run(name="other", experiment=lab.tracker.experiment("others"), tags={})
    result = lab("errors", run.run_id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Run {run.run_id} has no config.yaml: it was not started by lab" in result.stderr


def test_weights_of_another_net_are_one_clear_error(lab: Any, trained: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(TINY.replace("width: 4", "width: 8"))
    lab.tracker.attach(trained).log_file(tmp_path / "config.yaml")
    result = lab("errors", trained)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the trained model does not fit" in result.stderr
    assert "Traceback" not in result.stderr
