"""`lab check`."""

from __future__ import annotations

from typing import Any


def test_check_tells_everything_about_all_files(bare_lab: Any) -> None:
    home = bare_lab.home
    (home / "bad1.yaml").write_text("name: Bad Name\nbase:\n  datset: digits\n  lr: fast\n")
    (home / "bad2.yaml").write_text("grid:\n  lr: [0.1, 0.1]\nconstraints:\n  - parms < 3\n")
    result = bare_lab("check", "bad1.yaml", "tiny.yaml", "bad2.yaml", "nope.yaml")
    assert result.exit_code == 2
    assert result.stdout == "ok  tiny.yaml: 4 cells, 3 feasible\n"
    for place in (
        "bad1.yaml:1: name: ",
        "bad1.yaml:3: base.datset: ",
        "bad1.yaml:4: base.lr: ",
        "bad2.yaml:2: grid.lr",
        "bad2.yaml:4: constraints[0]: ",
        "nope.yaml: no such file",
    ):
        assert place in result.stderr
    assert result.stderr.count("Error: ") == 1


def test_check_finds_cells_that_cannot_be_built(bare_lab: Any) -> None:
    (bare_lab.home / "deep.yaml").write_text("base: {dataset: digits}\ngrid: {depth: [1, 9]}\n")
    result = bare_lab("check", "deep.yaml")
    assert result.exit_code == 2
    assert "cell 1 (depth=9)" in result.stderr


def test_check_without_the_data(bare_lab: Any) -> None:
    (bare_lab.home / "photos.yaml").write_text("base: {dataset: image_folder, data_dir: nowhere}\n")
    result = bare_lab("check", "photos.yaml")
    assert result.exit_code == 0
    assert "not checked against the data" in result.stdout
