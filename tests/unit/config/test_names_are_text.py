"""Names of classes, labels and folders are text, whatever they look like: `001` is no number, `no` no truth value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lab.config import TrialConfig, load_config, load_grid, parse_config, parse_grid, parse_values, takes_text
from lab.errors import ConfigError

LOOKS = [
    "001",
    "1e3",
    "no",
    "null",
    "3.10",
    "0x1F",
    "0o17",
    "1_000",
    "2024-01-01",
    "12:30",
    "true",
    ".inf",
    "~",
]
DECOMPOSED, COMPOSED = "cafe\u0301", "caf\u00e9"


def test_classes_of_a_grid_file_are_what_is_written_there() -> None:
    text = ", ".join(LOOKS)
    grid = parse_grid(
        f"base: {{classes: [{text}]}}\ngrid:\n  momentum: [0.1]\n  data_dir: [007, null]\n  augment: [null]"
    )
    assert grid.base["classes"] == tuple(LOOKS)
    assert [point["data_dir"] for point in grid.space] == ["007", None]
    grid = parse_grid("grid: {classes: [null, [01, 1], [no, 1e3]]}\nexclude: [{classes: [01, 1]}]")
    assert [point["classes"] for point in grid.space] == [(), ("01", "1"), ("no", "1e3")]
    assert grid.excluded(grid.space.at(1)) == "excluded: classes=01,1"


def test_classes_within_variants_anchors_and_searches() -> None:
    grid = parse_grid(
        "base: &base {classes: [01, 02], lr: 0.1}\n"
        "grid: {set: {few: {<<: *base, optimizer: adam}, two: {<<: *base, classes: ['a', 03]}}}"
    )
    assert [grid.space.values(point)["classes"] for point in grid.space] == [("01", "02"), ("a", "03")]
    grid = parse_grid(
        "search:\n  space:\n    classes: {choices: [[01, 1], [no, 1e3]]}\n    net: {'1e3': {lr: 0.1}, b: {lr: 1}}\n"
        "  enqueue: [{classes: [no, 1e3], net: 1e3}]\nbudget: {trials: 1}"
    )
    assert grid.search is not None
    assert grid.search.enqueue == ({"classes": ("no", "1e3"), "net": "1e3"},)


def test_labels_of_variants(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(
        f"grid:\n  momentum: [0.1, 0.9]\n  net: {{'3.10': {{}}, {DECOMPOSED}: {{norm: batch}}}}\n"
        "when: {momentum: {net: 3.10}}\n",
        encoding="utf-8",
    )
    grid = load_grid(file, only={"net": [DECOMPOSED, "3.10"]})
    assert [point["net"] for point in grid.space] == ["3.10", "3.10", COMPOSED]
    assert not any(map(grid.excluded, grid.space))


def test_classes_of_the_command_line() -> None:
    assert parse_values({"classes": "001,003"})["classes"] == ("001", "003")
    assert parse_values({"classes": "'" + ",".join(LOOKS) + "'"})["classes"] == tuple(LOOKS)
    assert parse_values({"classes": "none", "augment": "[]"}) == {"classes": (), "augment": ()}
    assert parse_values({"data_dir": "007", "init_from": "1234567e" * 4})["init_from"] == "1234567e" * 4


def test_classes_are_read_back_from_what_a_run_keeps(tmp_path: Path) -> None:
    config = TrialConfig(classes=tuple(LOOKS), data_dir="1e3", init_from="1234567e" * 4)
    assert parse_config(parse_values(config.as_params())) == config
    file = tmp_path / "config.yaml"
    file.write_text(
        yaml.safe_dump(config.as_values())
    )  # for which `1e3` is no number, and stands without quotes
    assert load_config(file) == config


def test_two_forms_of_an_accent_are_one_class() -> None:
    one, other = (TrialConfig(classes=(name, "x")) for name in (COMPOSED, DECOMPOSED))
    assert one.classes == other.classes == (COMPOSED, "x")
    assert one.cell_hash == other.cell_hash


@pytest.mark.parametrize(
    ("classes", "shown"), [([1.5, "a"], "1.5"), ([None, "a"], "None"), ([True, "a"], "True")]
)
def test_what_is_no_text_in_python_is_to_be_quoted(classes: list[Any], shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"^classes: must be text, but got {shown}; put it in quotes$"):
        parse_config({"classes": classes})
    assert parse_config({"classes": list(np.arange(2))}).classes == ("0", "1")


def test_which_settings_are_text() -> None:
    assert {"classes", "augment", "dataset", "data_dir", "init_from", "block", "norm"} <= {
        name for name in TrialConfig.model_fields if takes_text(name)
    }
    assert not any(map(takes_text, ["freeze", "lr", "patience", "filters", "nesterov", "nothing"]))
