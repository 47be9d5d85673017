"""What is known of a grid before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.config import load_grid, parse_grid
from lab.engines import Stores, check_grids
from lab.engines.preview import dimension_values, needs_of, notes_on_data, plan_grid
from lab.errors import ConfigError

BASE = "base: {dataset: synthetic, image_size: 8, width: 4}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "first.yaml").write_text(f"{BASE}grid: {{lr: [0.1]}}\n")
    (tmp_path / "second.yaml").write_text(f"{BASE}needs: first.yaml\nrepeats: 2\n")
    (tmp_path / "bad.yaml").write_text("base: {dataset: digts}\n")
    return tmp_path


def test_some_overrides_reach_the_studies_that_a_grid_needs(folder: Path) -> None:
    needs = needs_of(load_grid(folder / "second.yaml", {"epochs": 3, "repeats": 1}))
    assert [(grid.name, grid.overrides) for grid in needs.grids] == [("first", {"epochs": 3})]
    assert needs.own_overrides == {"repeats": 1}
    alone = needs_of(load_grid(folder / "first.yaml", {"width": 6}))
    assert (list(alone.grids), alone.own_overrides) == ([], {})


def test_valid_files_come_first_and_then_all_faults(folder: Path) -> None:
    checked = check_grids([folder / "bad.yaml", folder / "first.yaml", folder / "none.yaml"])
    first = next(checked)
    assert (first.grid.name, first.feasible, first.trouble) == ("first", 1, "")
    with pytest.raises(ConfigError, match=r"bad\.yaml:1.*digts(?s:.*)none\.yaml: no such file"):
        next(checked)


def test_a_plan_without_a_study_compares_with_nothing(folder: Path) -> None:
    plan = plan_grid(load_grid(folder / "first.yaml"), Stores())
    cells = list(plan.cells)
    assert [(cell.label, cell.state) for cell in cells] == [("lr=0.1", "new")]
    assert (plan.summary(cells), plan.unverified, plan.trouble) == (None, 0, "")
    assert not (folder / ".lab").exists()


def test_notes_are_given_once_for_all_that_use_the_same_data() -> None:
    grid = parse_grid(f"{BASE}grid: {{lr: [0.1, 0.2], val_fraction: [0.1, 0.2]}}\n")
    configs = [grid.config(point) for point in grid.space]
    assert len(configs) == 4
    assert len(list(notes_on_data(configs))) == 2


def test_dimensions_in_words() -> None:
    grid = parse_grid(
        "base: {dataset: digits}\n"
        "grid: {optimizer: [adam, sgd], momentum: [0.5, 0.9]}\n"
        "when: {momentum: {optimizer: sgd}}\n"
    )
    assert [dimension_values(dimension) for dimension in grid.space.dimensions] == [
        ("adam, sgd", ""),
        ("0.5, 0.9", "optimizer=sgd"),
    ]
