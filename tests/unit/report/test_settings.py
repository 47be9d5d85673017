"""Trials with other settings in the same study never mix with those that are planned now."""

from __future__ import annotations

from typing import Any

import pytest

from lab.config import Grid, parse_grid
from lab.report import effects, publish_leaderboard
from lab.report.settings import changes, differing, in_words
from lab.tracking.planned import Planned, log_planned, read_planned

GRID = """
name: s
base: {dataset: digits, width: 4}
grid:
  lr: [0.1, 0.2]
  net:
    plain: {norm: none}
    normed: {norm: batch}
epochs: 9
"""
SEARCH = """
name: s
base: {dataset: digits}
search:
  space: {lr: {low: 0.001, high: 1.0, log: true}, optimizer: [adam, sgd]}
budget: {trials: 8}
epochs: 9
"""


class Planner:
    """Plans a grid file into a study, and trains all or some of its cells."""

    def __init__(self, study: Any, text: str = GRID) -> None:
        self.text = text
        self.study = study([dimension.name for dimension in parse_grid(text).space.dimensions])

    def sweep(self, text: str = "", *, partial: bool = False, value: float = 0.5, **overrides: Any) -> None:
        grid = parse_grid(text or self.text, overrides=overrides)
        points = list(grid.space)[:1] if partial else list(grid.space)
        cells = () if grid.search else tuple(grid.config(point).cell_hash for point in points)
        planned = Planned(grid.text, grid.overrides, cells)
        log_planned(self.study.parent, self.study.tracker, planned, partial=partial)
        for point in points:
            self.train(grid, point, value)

    def train(self, grid: Grid, point: Any, value: float) -> None:
        config = grid.config(point)
        params = {**point, **config.as_params()}
        self.study.trial(params, best_value=value, test_accuracy=value, tags={"lab.cell": config.cell_hash})


@pytest.fixture
def planner(memory_study: Any) -> Planner:
    return Planner(memory_study)


def test_a_smoke_run_is_not_on_the_leaderboard(planner: Planner) -> None:
    planner.sweep(epochs=1, value=0.1)
    assert len(planner.study.board()) == 4
    planner.sweep(value=0.9)
    board = planner.study.board()
    assert board["best_value"].tolist() == [0.9] * 4
    assert (board.attrs["left_out"], board.attrs["other"]) == (4, "epochs=1")
    assert board.attrs["varied"] == ["lr", "net"]
    assert board["name"].str.startswith("lr=").all()
    table = effects(planner.study.board(repeats="each"), board.attrs["varied"])
    assert table["n"].tolist() == [2] * 4
    assert table["mean"].tolist() == pytest.approx([0.9] * 4)


def test_what_a_folder_tells_is_no_other_setting() -> None:
    read = {"image_size": "16", "data_digest": "sha256:0123456789abcdef", "epochs": "2"}
    assert changes(read, {"epochs": "2"}) == {}
    assert changes(read, {"epochs": "2", "image_size": "32"}) == {"image_size": "16"}


def test_all_of_it_has_a_column_for_what_differs(planner: Planner) -> None:
    planner.sweep(epochs=1, weight_decay=0.1, value=0.1)
    planner.sweep(value=0.9)
    board = planner.study.board(of="all")
    assert board.attrs["varied"] == ["lr", "net", "epochs", "weight_decay"]
    assert board["epochs"].tolist() == ["9"] * 4 + ["1"] * 4
    assert len(set(board["name"])) == 8
    assert board["name"].iloc[-1].startswith("epochs=1 weight_decay=0.1 lr=")
    assert board.attrs["left_out"] == 0
    publish_leaderboard(planner.study.parent, planner.study.board(of="all", repeats="each"))


def test_repeats_are_never_averaged_over_other_settings(memory_study: Any) -> None:
    planner = Planner(memory_study, GRID + "repeats: 2\n")
    planner.sweep(epochs=1, value=0.1)
    planner.sweep(value=0.9)
    assert planner.study.board()["n"].tolist() == [2] * 4
    board = planner.study.board(of="all")
    assert board["best_value"].tolist() == pytest.approx([0.9] * 4 + [0.1] * 4)
    assert board["n"].tolist() == [2] * 8


def test_a_part_of_a_file_is_shown_with_its_other_parts(planner: Planner) -> None:
    planner.sweep(value=0.9)
    planner.sweep(partial=True, value=0.8)
    assert len(planner.study.board()) == 5
    planner.sweep(partial=True, epochs=1)
    assert len(planner.study.board()) == 1  # another --set is another file


def test_cells_of_before_the_file_gained_a_dimension_are_its_cells(memory_study: Any) -> None:
    planner = Planner(memory_study, "name: s\nbase: {dataset: digits}\ngrid: {lr: [0.1, 0.2]}")
    planner.sweep()
    grown = parse_grid(planner.text.replace("{lr: [0.1, 0.2]}", "{lr: [0.1, 0.2], norm: [none, batch]}"))
    cells = tuple(grown.config(point).cell_hash for point in grown.space)
    log_planned(planner.study.parent, planner.study.tracker, Planned(grown.text, {}, cells))
    assert len(planner.study.board()) == 2


def test_of_a_search_the_base_tells(memory_study: Any) -> None:
    planner = Planner(memory_study, SEARCH)
    planner.sweep(epochs=1, value=0.1)
    planner.sweep(value=0.9)
    board = planner.study.board()
    assert set(board["best_value"]) == {0.9}
    assert (board.attrs["other"], [*board.attrs["ranges"]]) == ("epochs=1", ["lr"])
    assert planner.study.board(of="all").attrs["varied"] == ["lr", "optimizer", "epochs"]


def test_a_study_of_an_earlier_version_shows_all(memory_study: Any) -> None:
    study = memory_study(("lr",))
    for epochs in (1, 9):
        study.trial({"lr": 0.1, "epochs": epochs, "threads": epochs}, best_value=epochs / 10)
    board = study.board()
    assert board[["epochs", "best_value"]].to_numpy().tolist() == [["9", 0.9], ["1", 0.1]]
    assert board.attrs["varied"] == ["lr", "epochs"]


def test_a_file_that_cannot_be_read_here_still_tells_its_cells(planner: Planner) -> None:
    planner.sweep(value=0.9)
    known = read_planned(planner.study.tracker, planner.study.parent.run_id)
    assert known is not None
    strange = Planned("base: {activation: mine}", {}, known.cells[:1])
    log_planned(planner.study.parent, planner.study.tracker, strange)
    board = planner.study.board()
    assert (len(board), board.attrs["left_out"], board.attrs["other"]) == (1, 3, "")
    planner.study.parent.log_text("no JSON", "planned.json")
    assert len(planner.study.board()) == 4


def test_what_counts_as_a_change() -> None:
    before = {"lr": "0.1", "data_dir": "/home/me/photos", "device": "cpu"}
    assert changes(before, {"lr": "0.1", "data_dir": "photos", "epochs": "9"}) == {}
    assert changes(before, {"lr": "0.2"}) == {"lr": "0.1", "data_dir": "photos"}
    folder = {"dataset": "image_folder", "resize": "squash", "background": "black"}
    assert changes(folder, {"dataset": "svhn"}) == {"dataset": "image_folder", "background": "black"}
    assert changes({"resize": "squash"}, {"resize": "pad"}) == {"resize": "squash"}
    assert in_words([{"lr": "0.1"}, None, {}, {"lr": "0.1"}]) == "lr=0.1"
    assert in_words([{"lr": str(number)} for number in range(9)]) == ""


def test_settings_that_follow_from_what_varies_do_not_differ(memory_study: Any) -> None:
    study = memory_study(("net",))
    study.trial({"net": "a", "norm": "batch", "preset": "x"})
    study.trial({"net": "b", "norm": "none", "preset": "y"})
    assert differing(study.runs(), ["net"]) == []
    study.trial({"net": "b", "norm": "layer"})
    assert differing(study.runs(), ["net"]) == ["norm"]
