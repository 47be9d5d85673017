"""`lab plan`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SIZES = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
MILLION = (
    "base: {dataset: synthetic, image_size: 8}\n"
    "grid:\n"
    + "".join(f"  {name}: {SIZES}\n" for name in ("width", "batch_size", "seed", "epochs", "patience"))
    + "  lr: [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01]\n"
)


def test_json_is_a_list_of_cells(bare_lab: Any) -> None:
    result = bare_lab("plan", "tiny.yaml", "--format", "json")
    cells = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [cell["feasible"] for cell in cells] == [True, True, True, False]
    first, last = cells[0], cells[3]
    assert (first["params"], first["mult_adds"], first["state"]) == (762, 7552, "new")
    assert (first["config"]["lr"], first["config"]["filters"]) == (0.01, [4])
    assert last["reason"] == "excluded: lr=0.02, activation=tanh"
    assert last["config"] == {"lr": 0.02, "activation": "tanh"}
    assert not (bare_lab.home / ".lab").exists()


def test_csv_has_a_row_for_each_cell(bare_lab: Any) -> None:
    result = bare_lab("plan", "tiny.yaml", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["label"] for row in rows] == [
        "lr=0.01 relu",
        "lr=0.01 tanh",
        "lr=0.02 relu",
        "lr=0.02 tanh",
    ]
    assert (rows[0]["params"], rows[0]["filters"], rows[0]["width"]) == ("762", "4", "4")


def test_csv_needs_no_stdout(bare_lab: Any) -> None:
    plan = f"{sys.executable} -m lab plan tiny.yaml --format csv >&-"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        ["sh", "-c", plan], cwd=bare_lab.home, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_search_has_no_table_of_cells(bare_lab: Any) -> None:
    (bare_lab.home / "search.yaml").write_text(
        "base: {dataset: digits}\nsearch: {space: {lr: [0.1, 0.2]}}\nbudget: {trials: 2}\n"
    )
    result = bare_lab("plan", "search.yaml", "--format", "csv")
    assert result.exit_code == 2
    assert "the plan of a search has no CSV format; use --format table or json" in result.stderr
    # a script may limit every plan: no more cells are shown of a search either
    whole = bare_lab("plan", "search.yaml", "--format", "json")
    limited = bare_lab("plan", "search.yaml", "--format", "json", "--limit", "1")
    assert (limited.exit_code, limited.stdout) == (0, whole.stdout)


def test_the_table_says_why_a_cell_is_excluded(bare_lab: Any) -> None:
    text = bare_lab("plan", "tiny.yaml", "--set", "width=64").stdout
    assert "excluded: lr=0.02, activation=tanh" in text
    assert "3 feasible (0 complete), 1 excluded" in text
    (bare_lab.home / "tiny.yaml").write_text(
        (bare_lab.home / "tiny.yaml").read_text().replace("100_000", "100")
    )
    assert "params <= 100" in bare_lab("plan", "tiny.yaml").stdout


def test_an_empty_grid_is_one_cell(bare_lab: Any) -> None:
    (bare_lab.home / "one.yaml").write_text("base: {dataset: digits}\n")
    assert len(json.loads(bare_lab("plan", "one.yaml", "--format", "json").stdout)) == 1


def test_a_million_cells_are_planned_lazily(bare_lab: Any) -> None:
    (bare_lab.home / "million.yaml").write_text(MILLION)
    bare_lab("plan", "tiny.yaml")  # imports
    begun = time.monotonic()
    result = bare_lab("plan", "million.yaml", "--limit", "3", "--format", "json")
    assert len(json.loads(result.stdout)) == 3
    assert time.monotonic() - begun < 30  # all of them would take many minutes
    text = bare_lab("plan", "million.yaml", "--limit", "3").stdout
    assert "\nOf these, 3 feasible (0 complete), 0 excluded\n999,997 more cells not shown" in text


def test_a_plan_of_an_existing_study(swept: Any) -> None:
    lab = swept
    assert (
        "Study 'tiny': 0 new cells, 3 already in the study (3 complete)\n" in lab("plan", "tiny.yaml").stdout
    )
    text = (lab.home / "tiny.yaml").read_text()
    (lab.home / "tiny.yaml").write_text(text.replace("lr: [0.01, 0.02]", "lr: [0.02, 0.03]"))
    grown = lab("plan", "tiny.yaml", "--limit", "1").stdout  # counts what it does not show, too
    grown = " ".join(grown.split())  # a narrow terminal wraps it
    assert (
        "2 new cells, 1 already in the study (1 complete), 2 in the study only: with other settings" in grown
    )
    changed = " ".join(lab("plan", "tiny.yaml", "--set", "epochs=3").stdout.split())
    assert "3 new cells, 0 already in the study (0 complete), 3 in the study only" in changed
    assert (
        "If you changed `base` or the code of a plug-in on purpose, use another `name` to keep the two apart"
        in changed
    )
    part = lab("plan", "tiny.yaml", "--only", "lr=0.03").stdout
    assert "2 new cells, 0 already in the study (0 complete)\n" in part


def test_it_says_which_overrides_reach_needed_studies(bare_lab: Any) -> None:
    base = "base: {dataset: synthetic, image_size: 8, width: 4}\n"
    (bare_lab.home / "first.yaml").write_text(base + "grid: {lr: [0.1]}\n")
    (bare_lab.home / "second.yaml").write_text(base + "needs: first.yaml\nrepeats: 2\n")
    text = bare_lab(
        "plan", "second.yaml", "--set", "epochs=3", "--set", "repeats=1", "--set", "lr=0.2"
    ).stdout
    assert "second: 1 cell\n" in "".join(f"{line.strip()}\n" for line in text.splitlines())
    assert "Needs first (1 cell), which is trained first, with epochs=3\n" in text
    assert "For second only: repeats=1, lr=0.2\n" in text
    assert (
        "Needs first (1 cell), which is trained first, as in its file\n"
        in bare_lab("plan", "second.yaml").stdout
    )


def test_an_estimate_rests_on_finished_trials(swept: Any) -> None:
    lab = swept
    (lab.home / "tiny.yaml").write_text(
        (lab.home / "tiny.yaml").read_text().replace("lr: [0.01, 0.02]", "lr: [0.02, 0.03]")
    )
    text = lab("plan", "tiny.yaml", "--estimate", "--workers", "1", "--price", "3").stdout
    assert "Estimate for 2 trials with 1 worker" in text
    assert "known from  finished trials of the study for 2 trials" in text
    assert re.search(r"^time +about \d", text, re.MULTILINE)  # no range: they say what early stopping saves
    assert re.search(r"^cost +(about|less than) \d", text, re.MULTILINE)


def test_an_estimate_rests_on_a_few_steps(bare_lab: Any) -> None:
    command = ["plan", "tiny.yaml", "--estimate", "--format", "json", "--only", "activation=relu"]
    found = json.loads(bare_lab(*command, "--workers", "1").stdout)
    assert (found["trials"], found["from"]) == (2, {"timed": 2})
    assert 0 < found["wall_seconds"]["at_least"] == found["wall_seconds"]["at_most"]  # no patience
    assert found["core_hours"]["at_most"] == pytest.approx(found["wall_seconds"]["at_most"] / 3600)
    assert not (bare_lab.home / ".lab").exists()


def test_options_of_an_estimate_need_it(bare_lab: Any) -> None:
    for arguments, message in [
        (["--price", "1"], "--price is an option of the estimate; add --estimate"),
        (["--workers", "2"], "--workers is an option of the estimate"),
        (["--estimate", "--format", "csv"], "--estimate has no CSV format; use --format table or json"),
    ]:
        result = bare_lab("plan", "tiny.yaml", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
