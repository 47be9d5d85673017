from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from lab.config import Grid, parse_grid
from lab.report import GridResults, grid_results, results_document
from lab.report.facts import command, facts
from lab.tracking import RunStatus

GRID = """
name: s
description: Which net?
report: "X. nets"
reported:
  - {test_accuracy: 0.75, note: best of the grid}
  - {cells: {net: plain}, outcome: not_converged}
  - {cells: {net: plain, lr: 0.1}, test_accuracy: 0.5}
  - {cells: {net: normed}, test_accuracy: [0.6, 0.8]}
  - {cells: {norm: batch, lr: 0.2}, test_accuracy: 0.8}
base: {dataset: synthetic, image_size: 8, width: 4}
grid:
  net:
    plain: {norm: none}
    normed: {norm: batch}
  lr: [0.1, 0.2]
exclude:
  - {net: plain, lr: 0.2}
repeats: 2
epochs: 20
patience: none
"""
ALL = ({"net": "plain", "lr": 0.1}, {"net": "normed", "lr": 0.1}, {"net": "normed", "lr": 0.2})


class Tracked:
    """The runs of a grid, logged as `train` logs them."""

    def __init__(self, study: Any, text: str = GRID) -> None:
        self.grid: Grid = parse_grid(text, "grids/s.yaml")
        self.study = study([dimension.name for dimension in self.grid.space.dimensions])

    def run(self, point: Mapping[str, Any], *overrides: str, **options: Any) -> str:
        """Log a run of the cell `point`, with `overrides` such as `epochs=10`."""
        point = {**point, **({"seed": 0} if "seed" not in point and "seed" in self.study.varied else {})}
        changed = dict(text.split("=") for text in overrides)
        chosen = {name: str(value) for name, value in point.items()}
        params = {**chosen, **self.grid.config(point).as_params(), **changed}
        return str(self.study.trial(params, **options))

    def results(self) -> GridResults:
        found = grid_results(self.grid, self.study.runs())
        assert found is not None
        return found

    def document(self, comment: str = "") -> str:
        return results_document([(self.grid, self.results())], {"s": comment}, "lab results grids/s.yaml")


@pytest.fixture
def tracked(memory_study: Any) -> Tracked:
    return Tracked(memory_study)


def rows(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under `heading`, without its head."""
    table = re.split(r"\n\n(?=\|)", document.partition(f"### {heading}")[2])[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def test_beside_the_report(tracked: Tracked) -> None:
    for point, accuracy in zip(ALL, (0.10, 0.70, 0.60), strict=True):
        for seed in range(2):
            outcome = "not_converged" if point["net"] == "plain" and seed else "completed"
            metrics = {"best_value": accuracy, "test_accuracy": accuracy + seed / 50, "best_epoch": 9}
            tracked.run({**point, "seed": seed}, outcome=outcome, epochs=14, params=1234, **metrics)
    found = rows(tracked.document(), "Compared with the report")
    assert found == [
        [
            "best of all cells (best of the grid)",
            "75.00 %",
            "71.00 % (n=2: 70.00 %, 72.00 %) (net=normed lr=0.1)",
            "-4.00",
            "2",
            "14 (best 9)",
        ],
        ["net=plain", "not_converged", "not_converged: 1 of 2", "–", "2", "–"],
        ["net=plain, lr=0.1", "50.00 %", "11.00 % (n=2: 10.00 %, 12.00 %)", "-39.00", "2", "14 (best 9)"],
        ["net=normed", "60.00–80.00 %", "61.00–71.00 %", "+1.00 to -9.00", "4", "14"],
        ["norm=batch, lr=0.2", "80.00 %", "61.00 % (n=2: 60.00 %, 62.00 %)", "-19.00", "2", "14 (best 9)"],
    ]


def test_all_cells_ranked_by_the_test_split(tracked: Tracked) -> None:
    tracked.run(ALL[0], best_value=0.99, test_accuracy=0.5, best_epoch=3, params=1234, seconds=62)
    tracked.run(ALL[1], best_value=0.7, test_accuracy=0.6)
    tracked.run(ALL[2], outcome="failed", status=RunStatus.FAILED)
    document = tracked.document()
    assert rows(document, "All cells") == [
        ["1", "normed", "0.1", "60.00 %", "–", "–", "–", "completed"],
        ["2", "plain", "0.1", "50.00 %", "3", "1,234", "1 min 02 s", "completed"],
        ["3", "normed", "0.2", "–", "–", "–", "–", "failed"],
    ]
    assert (
        "selected by `val_accuracy`; by this metric the best cell is net=plain lr=0.1, with 50.00 %"
        in document
    )


def test_what_diverged_is_not_the_best(tracked: Tracked) -> None:
    tracked.run(ALL[1], outcome="diverged", best_value=0.9, test_accuracy=0.9)
    tracked.run(ALL[2], best_value=0.6, test_accuracy=0.6)
    document = tracked.document()
    assert rows(document, "Compared with the report")[0][2] == "60.00 % (net=normed lr=0.2)"
    assert "by this metric the best cell is net=normed lr=0.2," in document
    assert [row[-1] for row in rows(document, "All cells")] == ["completed", "diverged"]


def test_runs_with_other_settings_than_the_file_are_found_and_told(tracked: Tracked) -> None:
    other = ("epochs=10", "scheduler=exponential", "gamma=0.95")
    for point in ALL:
        tracked.run(point, *other, "data_dir=/home/me/photos")
    tracked.run({**ALL[0], "seed": 1}, *other, "data_dir=/mnt/photos")
    results = tracked.results()
    found = facts(results)
    assert found["Data"] == "synthetic; folder `photos`"
    assert found["Seeds"] == "0, 1"
    differences = found["Differences from the file"].split("; ")
    assert differences == [
        "epochs 10 instead of 20",
        "gamma 0.95",
        "scheduler exponential instead of constant",
    ]
    assert command(results) == (
        "lab sweep grids/s.yaml --set epochs=10 --set gamma=0.95 --set scheduler=exponential"
        " --set data_dir=path/to/photos"
    )
    assert "Left out" not in found
    assert "/home" not in tracked.document()


def test_runs_of_different_settings_are_not_put_into_one_table(tracked: Tracked) -> None:
    for accuracy, point in enumerate(ALL):
        tracked.run(point, "epochs=1", test_accuracy=accuracy / 10)
    assert "Left out" not in facts(tracked.results())
    full = tracked.run(ALL[0], test_accuracy=0.9)
    results = tracked.results()
    assert results.runs["run_id"].tolist() == [full]
    assert facts(results)["Left out"] == "3 runs of these cells with other settings (epochs=1)"
    late = tracked.run(ALL[0], "epochs=2", status=RunStatus.FAILED, outcome="failed")
    assert late not in tracked.results().runs["run_id"].tolist()


def test_where_none_is_as_the_file_the_newest_settings_count(tracked: Tracked) -> None:
    for at, epochs in enumerate((1, 2)):
        for point in ALL:
            run = tracked.run(point, f"epochs={epochs}", test_accuracy=0.5)
            tracked.study.tracker._runs[run].start_time += at
    results = tracked.results()
    assert set(results.runs["params.epochs"]) == {"2"}
    assert (results.left_out, results.other) == (3, "epochs=1")


def test_the_command_has_the_cells_that_were_run(tracked: Tracked) -> None:
    for point in ALL[1:]:
        for seed in range(2):
            tracked.run({**point, "seed": seed})
    assert command(tracked.results()) == "lab sweep grids/s.yaml --only net=normed"
    tracked.run(ALL[0])
    assert command(tracked.results()) == "lab sweep grids/s.yaml"


def test_how_the_runs_were_made(tracked: Tracked) -> None:
    tags = {"lab.torch": "2.13", "lab.python": "3.11", "lab.version": "0.1", "lab.host": "secret"}
    tags |= {"lab.device": "cpu", "lab.threads": "1", "mlflow.source.git.commit": "0123456789abcdef"}
    tracked.run(ALL[0], tags=tags)
    tracked.run(ALL[1], outcome="diverged", tags=tags)
    found = facts(tracked.results())
    assert found["Runs"].startswith("2 (1 completed, 1 diverged), 20")
    assert found["Machine"] == "cpu; threads per trial: 1"
    assert found["Software"] == "lab 0.1, python 3.11, torch 2.13"
    assert found["Code"] == "0123456789ab"
    assert found["To reproduce"] == "`lab sweep grids/s.yaml --only lr=0.1 --only seed=0`"
    assert "Differences from the file" not in found
    assert "secret" not in str(found)


def test_of_several_runs_of_a_cell_the_newest_that_finished_counts(tracked: Tracked) -> None:
    tracked.run(ALL[0], test_accuracy=0.1)
    tracked.study.tracker._runs[kept := tracked.run(ALL[0], test_accuracy=0.2)].start_time += 1
    late = tracked.run(ALL[0], status=RunStatus.FAILED, outcome="failed")
    tracked.study.tracker._runs[late].start_time += 2
    other = tracked.run({**ALL[0], "seed": 1}, status=RunStatus.FAILED, outcome="failed")
    assert set(tracked.results().runs["run_id"]) == {kept, other}


def test_seeds_of_a_grid_that_names_none_are_repeats(memory_study: Any) -> None:
    tracked = Tracked(memory_study, GRID.replace("repeats: 2\n", ""))
    for seed in range(3):
        tracked.run(ALL[0], f"seed={seed}", test_accuracy=0.5)
    results = tracked.results()
    assert results.cells["n"].tolist() == [3]
    assert len(results.runs) == 3
    assert rows(tracked.document(), "Compared with the report")[2][2] == "50.00 %"


def test_a_grid_of_one_cell(memory_study: Any) -> None:
    text = "name: s\nreported: [{test_accuracy: 0.938, note: mean of 5}]\nbase: {dataset: digits}\nrepeats: 2"
    tracked = Tracked(memory_study, text)
    for seed in range(2):
        tracked.run({"seed": seed}, test_accuracy=0.9 + seed / 100)
    assert rows(tracked.document(), "Compared with the report")[0][2] == "90.50 % (n=2: 90.00 %, 91.00 %)"
    assert rows(tracked.document(), "All cells")[0][1:4] == ["s", "90.50 % (n=2: 90.00 %, 91.00 %)", "2"]


def test_two_cells_that_are_one_trial(memory_study: Any) -> None:
    text = GRID.replace("    plain: {norm: none}\n", "    plain: {norm: none}\n    bare: {dense: []}\n")
    tracked = Tracked(memory_study, text.replace("net: plain, lr: 0.1", "net: bare, lr: 0.1"))
    tracked.run(ALL[0], test_accuracy=0.5)
    assert rows(tracked.document(), "Compared with the report")[2][2] == "50.00 %"


def test_runs_of_other_cells_do_not_count(tracked: Tracked) -> None:
    assert grid_results(tracked.grid, tracked.study.runs()) is None
    tracked.study.trial({"net": "plain", "lr": 0.3, "seed": 0}, test_accuracy=0.9)
    tracked.study.trial({}, test_accuracy=0.9)
    assert grid_results(tracked.grid, tracked.study.runs()) is None


def test_what_was_not_run(tracked: Tracked) -> None:
    tracked.run(ALL[1], outcome="killed", status=RunStatus.KILLED)
    found = rows(tracked.document(), "Compared with the report")
    assert found[1][2:5] == ["not run here", "–", "0"]
    assert found[2][2:5] == ["not run here", "–", "0"]
    assert found[3][2:5] == ["no finished run", "–", "1"]
    document = results_document([(tracked.grid, None)], {}, "lab results")
    assert "## Not run here\n\n- s: X. nets\n" in document


def test_comments_and_the_command_stand_below(tracked: Tracked) -> None:
    tracked.run(ALL[0], test_accuracy=0.5)
    document = tracked.document(comment="\nWe trained **less**.\n")
    assert document.endswith("\n\nWe trained **less**.\n\nGenerated by `lab results grids/s.yaml`.\n")
    assert "## s\n\n*X. nets*\n\nWhich net?\n\n- Data: synthetic\n" in document


def test_chosen_metrics_stand_beside_the_accuracy(memory_study: Any) -> None:
    tracked = Tracked(memory_study, GRID.replace("width: 4}", "width: 4, metrics: [ece], monitor: val_ece}"))
    tracked.run(ALL[1], best_value=0.02, test_accuracy=0.6, test_ece=0.03)
    tracked.run(ALL[2], best_value=0.01, test_accuracy=0.5)
    document = tracked.document()
    assert [row[3:5] for row in rows(document, "All cells")] == [["60.00 %", "0.0300"], ["50.00 %", "–"]]
    assert "| test accuracy | test ece |" in document
    assert "by this metric the best cell is net=normed lr=0.2" in document
