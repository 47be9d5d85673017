"""The model card of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from lab.data import INTAKE, Intake
from lab.report import model_card
from lab.report.statistics import accuracy_interval
from lab.tracking import MemoryTracker

PER_CLASS = "class,images,errors,accuracy\ncat,60,6,0.9\ndog_*,40,14,0.65\n"
CONFUSED = [
    {"true": "dog_*", "predicted": "cat", "count": 14, "share": 0.35, "examples": []},
    {"true": "cat", "predicted": "dog_*", "count": 1, "share": 1 / 60, "examples": []},
]


@pytest.fixture
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture
def run(tracker: MemoryTracker) -> Any:
    """A run of the study `pets`, with everything that a finished trial has logged."""
    tags = {"lab.study": "pets", "lab.kind": "trial"}
    experiment = tracker.experiment("pets")
    for name in ("lr=0.1", "lr=[2]"):
        run = tracker.open_run(name=name, experiment=experiment, tags=tags)
    run.log_params({"architecture": "cnn", "dataset": "image_folder", "monitor": "val_accuracy"})
    run.log_metrics({"test_accuracy": 0.8, "test_macro_f1": 0.79, "params": 7144.0, "best_value": 0.85})
    run.set_tags({"lab.images": "train 400, val 50, test 100", "lab.version": "1.2"})
    run.log_dataset(
        "image_folder", digest="0a1b", source="/pets", shape=[3, 8, 8], classes=["cat", "dog_*"], images={}
    )
    run.log_text(Intake(("cat", "dog_*"), (3, 8, 8), (0.5,) * 3, (0.2,) * 3).to_json(), INTAKE)
    run.log_text(PER_CLASS, "errors/per_class.csv")
    run.log_text(json.dumps(CONFUSED), "errors/most_confused.json")
    return run


def test_it_says_what_the_model_is_and_how_good(tracker: MemoryTracker, run: Any) -> None:
    body = model_card(tracker, run.run_id, "pets", ["champion"]).body
    first, second = body.splitlines()[0:3:2]
    assert first == (
        "Image classifier of the study pets, test accuracy 80.00%: cnn, 7,144 parameters, images of 3×8×8."
    )
    assert second.startswith(r"From the run [lr=\[2\]](#/experiments/1/runs/" + run.run_id)
    for line in (
        r"- image_folder, digest `0a1b`",
        r"- 2 classes: cat, dog\_\*",
        "- test accuracy 80.00% (95 % interval 71.12% to 86.66%, 100 test images)",
        "- macro F1 0.7900",
        "- best `val_accuracy` 0.8500",
        r"- dog\_\* taken for cat: 14 images, 35.0% of dog\_\*",
        r"- cat taken for dog\_\*: 1 image, 1.7% of cat",
        "- It was chosen among 2 trials by its validation split, not by the test split.",
        "lab predict models:/pets@champion IMAGE…",
        "mlflow models serve -m models:/pets@champion --env-manager local",
        "- lab 1.2",
    ):
        assert line in body.splitlines(), line


def test_its_header_is_that_of_the_hugging_face_hub(tracker: MemoryTracker, run: Any) -> None:
    card = model_card(tracker, run.run_id, "my: pets")
    _, header, body = card.text.split("---\n", 2)
    assert body.strip().startswith("# my: pets\n\nImage classifier")
    found = yaml.safe_load(header)
    assert (found["library_name"], found["pipeline_tag"]) == ("pytorch", "image-classification")
    (index,) = found["model-index"]
    (result,) = index["results"]
    assert (index["name"], result["dataset"]["name"]) == ("my: pets", "image_folder")
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [
        ("accuracy", 0.8),
        ("f1", 0.79),
    ]


def test_without_an_alias_it_names_the_run(tracker: MemoryTracker, run: Any) -> None:
    body = model_card(tracker, run.run_id, "pets").body
    assert f"lab predict runs:/{run.run_id} IMAGE…" in body
    assert f"mlflow models serve -m runs:/{run.run_id}/model --env-manager local" in body


def test_what_a_run_does_not_tell_is_left_out(tracker: MemoryTracker) -> None:
    bare = tracker.open_run(name="bare", experiment=tracker.experiment("others"), tags={})
    bare.log_text("{", INTAKE)
    body = model_card(tracker, bare.run_id, "pets").body
    assert body.startswith("Image classifier.\n\nFrom the run [bare]")
    headings = [line for line in body.splitlines() if line.startswith("##")]
    assert headings == ["## Limits", "## Made with"]


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval(correct: int, images: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3
    assert accuracy_interval(correct, images) == pytest.approx((low, high), abs=5e-5)
