"""A study that needs another: both are swept, the second begins with the first's best model."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import load_grid
from lab.engines import Stores, sweep
from lab.errors import ConfigError, TrackingError
from lab.study import Submission
from lab.tracking import connect

BASE = "dataset: synthetic, image_size: 8, filters: [4, 4], norm: batch, batch_size: 256, epochs: 2, patience: none"
SOURCE = f"base: {{{BASE}}}\ngrid: {{lr: [0.000001, 0.01]}}\n"
SMALL = f"""
needs: source.yaml
base: {{{BASE}, classes: [pattern0, pattern3], train_samples: 50}}
grid:
  init_from: [none, best:source]
  freeze: [none, 1, all_but_head]
when:
  freeze: {{init_from: best:source}}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "source.yaml").write_text(SOURCE)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.slow
def test_the_needed_study_is_swept_first_and_its_best_model_is_the_beginning(
    files: Path, stores: Stores
) -> None:
    planned: list[str] = []

    def note(submission: Submission, progress: object) -> None:
        planned.append(submission.queue.record().experiment)

    result = sweep(load_grid(files / "small.yaml"), stores, workers=2, on_plan=note)
    assert planned == ["source", "small"]
    assert (result.study, result.states) == ("small", {"complete": 4})
    tracker = connect(stores.tracking_uri)
    source = tracker.runs(tracker.experiment("source"), tags={"lab.kind": "trial"}, order_by="best_value")
    small = tracker.runs(tracker.experiment("small"), tags={"lab.kind": "trial"}).set_index("name")
    begun = small[small["params.init_from"] == "best:source"]
    assert set(begun["tags.lab.init_from_run"]) == {source.iloc[0]["run_id"]}
    trainable = begun.set_index("params.freeze")["metrics.trainable_params"]
    assert trainable["none"] > trainable["1"] > trainable["all_but_head"] > 0


@pytest.mark.slow
def test_again_runs_nothing(files: Path, stores: Stores) -> None:
    sweep(load_grid(files / "small.yaml", only={"init_from": ["none"]}), stores, workers=1)
    added: list[int] = []
    sweep(
        load_grid(files / "small.yaml", only={"init_from": ["none"]}),
        stores,
        workers=1,
        on_plan=lambda submission, progress: added.append(submission.added),
    )
    assert added == [0, 0]


def test_what_cannot_begin_spends_nothing(files: Path, stores: Stores) -> None:
    (files / "small.yaml").write_text(SMALL.replace("filters: [4, 4]", "filters: [4, 8]"))
    with pytest.raises(ConfigError, match=r"its features.conv2.weight is 4×4×3×3, this one's is 8×4×3×3"):
        sweep(load_grid(files / "small.yaml"), stores, workers=1)
    assert connect(stores.tracking_uri).find_experiment("source") is None


def test_a_study_that_is_not_there_is_told_before_anything_is_queued(files: Path, stores: Stores) -> None:
    (files / "small.yaml").write_text(SMALL.replace("needs: source.yaml", ""))
    with pytest.raises(
        TrackingError,
        match=r"There is no study 'source' .*; sweep it first \(`needs` in a grid file does that\)",
    ):
        sweep(load_grid(files / "small.yaml"), stores, workers=1)
    assert connect(stores.tracking_uri).find_experiment("small") is None
