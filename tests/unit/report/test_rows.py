"""The rows of a study's runs, and the page that they make again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from lab.config import load_grid, parse_grid
from lab.report import grid_results, raw_rows, results_document
from tests.published_rows import tables, tables_of_rows

GRID = """
name: s
base: {dataset: synthetic, image_size: 8, width: 4, optimizer: sgd}
grid:
  net: {plain: {norm: none}, normed: {norm: batch}}
  lr: [0.1, 0.2, 0.3]
repeats: 3
reported: [{test_accuracy: 0.9}, {cells: {net: plain}, test_accuracy: [0.5, 0.6]}]
claims:
  - {claim: Batch norm helps, cells: {net: normed}, beats: {net: plain}}
  - {claim: Rates help, rising: {lr: [0.1, 0.2, 0.3]}}
  - {claim: Plain nets fail, cells: {net: plain}, outcome: diverged}
  - {claim: Plain nets learn nothing, cells: {net: plain}, below: 0.6}
"""
RESULTS = Path(__file__).parents[3] / "docs"


def page_and_rows(study: Any, text: str = GRID) -> tuple[Any, str, str]:
    grid = parse_grid(text, "grids/s.yaml")
    runs = study([dimension.name for dimension in grid.space.dimensions])
    labels = {}
    for number, point in enumerate(reversed([*grid.space])):
        params = {**dict(point), **grid.config(point).as_params()}
        accuracy = 0.5 + number / 97 + (point["net"] == "normed") / 7
        diverged = number == 4
        run_id = runs.trial(
            params,
            outcome="diverged" if diverged else "completed",
            tags={
                "lab.host": "secret",
                "lab.cell": f"c{number}",
                "mlflow.source.git.commit": "0123456789abcdef",
            },
            **{"best_value": accuracy + 0.01, "test_accuracy": 0.1 if diverged else accuracy},
            **{"best_epoch": 3, "epochs": 5, "params": 1234, "seconds": 61.4 + number},
        )
        labels[run_id] = grid.label(point)
    frame = runs.runs()
    results = grid_results(grid, frame.assign(name=frame["run_id"].map(labels)))
    assert results is not None
    csv = raw_rows(results).to_csv(index=False)
    return grid, results_document([(grid, results)], {}, "lab results"), csv


def test_a_row_for_each_run_in_the_order_of_cells_and_seeds(memory_study: Any) -> None:
    _, _, csv = page_and_rows(memory_study)
    head, first, *rest = csv.splitlines()
    assert head == (
        "cell,net,lr,seed,test_accuracy,best_value,best_epoch,epochs,params,seconds,outcome,commit,started"
    )
    assert first.startswith("c17,plain,0.1,0,0.6752577319587629,")
    assert ",3,5,1234,78.4,completed,0123456789ab,20" in first
    order = [tuple(line.split(",")[1:4]) for line in (first, *rest)]
    assert order == [*itertools.product(("plain", "normed"), ("0.1", "0.2", "0.3"), ("0", "1", "2"))]
    assert "secret" not in csv


@pytest.mark.parametrize("repeats", ["repeats: 3\n", ""])
def test_the_page_follows_from_its_rows(memory_study: Any, repeats: str) -> None:
    grid, document, csv = page_and_rows(memory_study, GRID.replace("repeats: 3\n", repeats))
    found = tables(document, "s")
    assert len(found) == 4 + 2 + 2 + 2 + 6  # claims, reported and cells, with the heads of two tables
    assert tables_of_rows(grid, csv) == found
    accuracy = csv.splitlines()[1].split(",")[csv.split(",").index("test_accuracy")]
    assert tables_of_rows(grid, csv.replace(accuracy, "0.9")) != found


@pytest.mark.parametrize("rows", sorted((RESULTS / "results").glob("*.csv")), ids=lambda file: file.stem)
def test_the_published_page_follows_from_its_rows(rows: Path) -> None:
    document = (RESULTS / "RESULTS.md").read_text()
    grid = load_grid(RESULTS.parent / "grids" / f"{rows.stem}.yaml")
    assert tables_of_rows(grid, rows.read_text()) == tables(document, rows.stem)
