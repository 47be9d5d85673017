"""Whether trained models fit the cells that begin with them: known before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.config import TrialConfig, load_grid
from lab.errors import ConfigError, TrackingError
from lab.objective import Placement, train
from lab.study import check_stored_origins, feasible_cells, plan
from lab.tracking import MemoryTracker

SOURCE = "name: source\nbase: {dataset: digits, classes: [1, 2, 3]}\ngrid: {filters: [[4, 4], [4, 8]]}\n"
SMALL = "needs: source.yaml\nbase: {dataset: digits, classes: [0, 9], init_from: best:source}\n"


@pytest.fixture
def grid(tmp_path: Path) -> Any:
    (tmp_path / "source.yaml").write_text(SOURCE)

    def load(text: str) -> Any:
        (tmp_path / "small.yaml").write_text(SMALL + text)
        return load_grid(tmp_path / "small.yaml")

    return load


def test_a_model_that_any_cell_of_the_needed_study_may_train_must_fit(grid: Any) -> None:
    reasons = [cell.reason for cell in plan(grid("grid: {filters: [[4, 4], [4, 8]]}"))]
    assert "its features.conv2.weight is 8×4×3×3, this one's is 4×4×3×3" in reasons[0]
    assert "its features.conv2.weight is 4×4×3×3, this one's is 8×4×3×3" in reasons[1]
    with pytest.raises(ConfigError, match=r"the trained model does not fit"):
        feasible_cells(grid("grid: {filters: [[4, 4]]}"))


def test_more_frozen_blocks_than_there_are(grid: Any) -> None:
    with pytest.raises(ConfigError, match=r"freeze: must be at most 2"):
        feasible_cells(grid("grid: {freeze: [3]}"))


def test_a_study_that_fits(grid: Any, tmp_path: Path) -> None:
    (tmp_path / "source.yaml").write_text(SOURCE.replace(", [4, 8]", ""))
    cells = feasible_cells(grid("grid: {filters: [[4, 4]], freeze: [none, 1, all_but_head]}"))
    assert [cell.config.freeze for cell in cells] == ["none", 1, "all_but_head"]


def config(**values: Any) -> TrialConfig:
    return TrialConfig(**{"dataset": "digits", "filters": (4,), "epochs": 1, "batch_size": 256, **values})


def test_a_model_of_an_earlier_run_must_fit(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    trained = train(config(), tracker, placement=Placement(checkpoint_dir=tmp_path))
    check_stored_origins([config(init_from=trained.run_id)], [], tracker)
    with pytest.raises(ConfigError, match=rf"features.conv1.weight is 4×1×3×3.*8×1×3×3 .{trained.run_id}"):
        check_stored_origins([config(init_from=trained.run_id, filters=(8,))], [], tracker)


def test_a_study_that_nobody_sweeps_first(tmp_path: Path) -> None:
    with pytest.raises(
        TrackingError,
        match=r"There is no study 'gone' at memory; sweep it first \(`needs` in a grid file does that\)",
    ):
        check_stored_origins([config(init_from="best:gone")], [], MemoryTracker())
