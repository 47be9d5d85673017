"""A study read from Python, and as a notebook shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab
from lab.config import parse_grid
from lab.engines import Stores
from lab.errors import StudyError
from tests.once import copy_of
from tests.stores import stores_in

GRID = """
name: bold
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, epochs: 2, batch_size: 256, patience: none}
grid: {net: {"[b]<i>": {lr: 0.01}, "&amp;": {lr: 0.02}}}
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Stores:
    home = tmp_path_factory.mktemp("read") / ".lab"
    copy_of(fresh_databases, home)
    lab.sweep(parse_grid(GRID), stores_in(home), workers=1)
    return stores_in(home)


def test_its_tables_are_of_the_same_trials(stores: Stores) -> None:
    study = lab.load_study("bold", stores)
    assert study.status().states == {"complete": 2}
    board, trials, curves = study.leaderboard("test_loss"), study.trials(), study.curves()
    assert sorted(board["test_loss"]) == board["test_loss"].tolist()
    assert set(board["run_id"]) == set(trials["run_id"]) == set(curves["run_id"])
    losses = curves[curves["metric"] == "val_loss"]
    assert losses["step"].tolist() == [1, 2] * 2
    assert set(study.effects()["value"]) == {"[b]<i>", "&amp;"}


def test_a_notebook_shows_names_as_they_are(stores: Stores) -> None:
    shown = lab.load_study("bold", stores)._repr_mimebundle_((), ())
    assert "bold: 2 complete" in shown["text/plain"]
    assert "[b]<i>" in shown["text/plain"]
    html = shown["text/html"]
    assert "[b]&lt;i&gt;" in html
    assert "&amp;amp;" in html
    assert "<i>" not in html


def test_its_report_is_a_file(stores: Stores, tmp_path: Path) -> None:
    page = lab.load_study("bold", stores).report(tmp_path / "bold.html").read_text(encoding="utf-8")
    assert " is the best of 2 cells: val_accuracy" in page
    assert "[b]&lt;i&gt;" in page
    assert "&amp;amp;" in page


def test_a_study_that_is_not_there(stores: Stores) -> None:
    with pytest.raises(StudyError, match=r"There is no study 'blod'\. Did you mean 'bold'\?"):
        lab.load_study("blod", stores)
