"""An error analysis is logged to a run, and read back."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pytest
import torch

from lab.data import MemorySplit
from lab.objective.error_analysis import log_error_analysis
from lab.tracking import MemoryTracker
from lab.training.analysis import analyse
from lab.training.evaluate import DetailedEvaluation

FIGURES = {"confusion_matrix.png", "confusion_errors.png", "errors_per_class.png", "most_confused.png"}
TABLES = {
    *("per_class.json", "errors/per_class.csv", "errors/confusion.csv", "errors/most_confused.json"),
    "predictions.parquet",
}
TRUE, PREDICTED = [0, 0, 0, 1, 1], [0, 1, 1, 1, 0]


def logged(
    classes: list[str], predicted: list[int] = PREDICTED, likeliest: torch.Tensor | None = None
) -> dict[str, bytes]:
    confidences = torch.tensor([0.9, 0.6, 0.8, 0.7, 0.5])
    probabilities = torch.arange(10.0).view(5, 2) / 10
    evaluation = DetailedEvaluation(
        *(1.0, 0.4, torch.tensor(predicted), confidences, 5, None, probabilities, likeliest)
    )
    tracker = MemoryTracker()
    run = tracker.open_run(name="r", experiment=tracker.experiment("e"), tags={})
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 8, 8)
    test = MemorySplit(images, torch.tensor(TRUE))
    log_error_analysis(run, analyse(test.labels, evaluation, classes), test)
    return tracker.artifacts(run.run_id)


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_everything_is_there() -> None:
    artifacts = logged(["cat", "dog", "eel"])
    assert set(artifacts) == FIGURES | TABLES
    for name in FIGURES:
        assert artifacts[name].startswith(b"\x89PNG")


def test_the_tables_say_what_the_analysis_found() -> None:
    artifacts = logged(["cat", "dog", "eel"])
    assert rows(artifacts["errors/confusion.csv"]) == [
        ["true", "cat", "dog", "eel"],
        ["cat", "1", "2", "0"],
        ["dog", "1", "1", "0"],
        ["eel", "0", "0", "0"],
    ]
    header, cat, _, eel = rows(artifacts["errors/per_class.csv"])
    assert header == ["class", "images", "errors", "accuracy", "precision", "f1"]
    assert (cat[:3], cat[4], eel) == (["cat", "3", "2"], "0.5", ["eel", "0", "0", "", "0.0", "0.0"])
    table = json.loads(artifacts["per_class.json"])
    assert (table["columns"], table["data"][2][3]) == (header, None)


def test_the_predictions_come_back_with_the_names_of_their_classes() -> None:
    found = pd.read_parquet(io.BytesIO(logged(["cat", "dög"])["predictions.parquet"]))
    assert found.columns.tolist() == ["index", "label", "predicted", "p_0", "p_1"]
    assert found["index"].tolist() == [0, 1, 2, 3, 4]
    assert (found["label"].tolist(), found["predicted"].tolist()) == (TRUE, PREDICTED)
    assert found["p_1"].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert found["p_1"].dtype == "float32"
    assert found.attrs["classes"] == ["cat", "dög"]


def test_of_many_classes_the_predictions_name_the_likeliest() -> None:
    likeliest = torch.arange(10).view(5, 2)
    content = logged([f"c{number}" for number in range(300)], likeliest=likeliest)["predictions.parquet"]
    found = pd.read_parquet(io.BytesIO(content))
    assert found.columns.tolist()[3:] == ["top_1", "top_2", "p_top_1", "p_top_2"]
    assert found["top_2"].tolist() == [1, 3, 5, 7, 9]


def test_the_most_confused_name_the_images_that_the_model_was_surest_of() -> None:
    first, second = json.loads(logged(["cat", "dog", "eel"])["errors/most_confused.json"])
    assert (first["true"], first["predicted"], first["count"]) == ("cat", "dog", 2)
    assert first["share"] == pytest.approx(2 / 3)
    assert [example["index"] for example in first["examples"]] == [2, 1]
    assert [example["confidence"] for example in first["examples"]] == pytest.approx([0.8, 0.6])
    assert second["examples"][0]["index"] == 4


def test_a_perfect_model_has_no_confused_images() -> None:
    artifacts = logged(["cat", "dog"], TRUE)
    assert set(artifacts) == (FIGURES | TABLES) - {"most_confused.png"}
    assert json.loads(artifacts["errors/most_confused.json"]) == []


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ['a,"b"', "a/b\\c", "two\nlines", "$a$", "猫", "", "  ", "=1+1", "-"])
def test_odd_names_come_back_as_they_are(name: str) -> None:
    artifacts = logged([name, "dog"])
    assert rows(artifacts["errors/confusion.csv"])[0] == ["true", name, "dog"]
    assert rows(artifacts["errors/per_class.csv"])[1][0] == name
    assert json.loads(artifacts["errors/most_confused.json"])[0]["true"] == name
    assert json.loads(artifacts["per_class.json"])["data"][0][0] == name


def test_names_that_are_not_unicode_are_spelled_out() -> None:
    artifacts = logged(["caf\udce9", "dog"])
    assert rows(artifacts["errors/confusion.csv"])[0] == ["true", "caf\\udce9", "dog"]
