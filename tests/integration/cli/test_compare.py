"""`lab compare`, `lab diff` and `lab importance` on a swept study."""

from __future__ import annotations

import json
from typing import Any

import pytest

RELU, TANH = "tiny:activation=relu,lr=1e-2", "tiny:activation=tanh"


def test_two_cells_with_one_run_each(swept: Any) -> None:
    result = swept("compare", RELU, TANH)
    assert (result.exit_code, result.stderr) == (0, "")
    verdict, _, rest = result.stdout.partition("\n")
    assert "the two models, of one seed each, recognise" in verdict
    assert "exact McNemar test, p" in verdict
    assert "activation" in rest
    assert "/#/metric?runs=%5B%22" in rest
    assert "&plot_metric_keys=%5B%22val_accuracy%22%5D&" in rest

    found = json.loads(swept("compare", RELU, TANH, "--format", "json").stdout)
    assert found["verdict"] == verdict
    runs = swept.runs("tiny").set_index("run_id")
    assert runs.loc[found["best_runs"], "params.activation"].tolist() == ["relu", "tanh"]
    assert found["models"]["a_correct"] == round(
        runs.loc[found["best_runs"][0], "metrics.test_accuracy"] * found["models"]["images"]
    )
    assert found["whole"]["p"] is None

    hashes = runs.loc[found["best_runs"], "tags.lab.cell"]
    by_hash = swept("compare", *(f"tiny:{cell[:6]}" for cell in hashes), "--format", "json").stdout
    assert json.loads(by_hash)["best_runs"] == found["best_runs"]
    by_run = swept("compare", *found["best_runs"], "--metric", "test_loss", "--format", "json").stdout
    assert (json.loads(by_run)["metric"], json.loads(by_run)["models"]) == ("test_loss", found["models"])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("tinny", "tiny", "There is no study 'tinny'. Did you mean 'tiny'?"),
        ("tiny", "tiny", "tiny and tiny have 3 runs in common"),
        ("tiny:lr", "tiny", "tiny:lr must be STUDY:SETTING=VALUE,… such as quickstart:lr=0.01,depth=3"),
        ("tiny:lrr=0.01", "tiny", "tiny:lrr=0.01: the trials have no setting 'lrr'. Did you mean 'lr'?"),
        ("tiny:lr=3", "tiny", "tiny:lr=3: no trial has lr=3; there is 0.01, 0.02"),
        ("tiny:lr=0.02,activation=tanh", "tiny", "No trial of the study has a cell"),
        ("tiny:ffff0000ffff0000", "tiny", "No trial of the study has a cell 'ffff0000ffff0000'"),
        ("0123456789abcdef", "tiny", "has a run id that begins with 0123456789abcdef"),
    ],
)
def test_names_that_are_none(swept: Any, a: str, b: str, message: str) -> None:
    result = swept("compare", a, b)
    assert (result.exit_code in (1, 2), result.stdout) == (True, "")  # 2 for names that cannot mean anything
    assert message in result.stderr


@pytest.mark.parametrize("command", [("compare", "a", "b"), ("diff", "abcd", "ef01"), ("importance", "a")])
def test_before_there_is_a_study(bare_lab: Any, command: tuple[str, ...]) -> None:
    result = bare_lab(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no study" in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_the_difference_of_two_runs(swept: Any) -> None:
    runs = swept.runs("tiny")
    a, b = (runs[runs["params.lr"] == lr]["run_id"].iloc[0] for lr in ("0.01", "0.02"))
    result = swept("diff", a[:8], b)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Settings (" in result.stdout
    assert "Versions" not in result.stdout
    found = json.loads(swept("diff", a, b, "--format", "json").stdout)
    assert found["settings"]["lr"] == ["0.01", "0.02"]
    assert (found["code"], found["data"], found["versions"]) == ({}, {}, {})
    result = swept("diff", a, a[:10])
    assert (result.exit_code, f"{a} and {a[:10]} are the same run, {a}" in result.stderr) == (1, True)


def test_importance_says_that_three_cells_are_too_few(swept: Any) -> None:
    result = swept("importance", "tiny")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        "tiny: Too few cells to tell what mattered for val_accuracy: 3; at least 10 are needed."
        in result.stdout
    )
    found = json.loads(swept("importance", "tiny", "--metric", "test_loss", "--format", "json").stdout)
    assert (found["metric"], {each["name"] for each in found["dimensions"]}) == (
        "test_loss",
        {"lr", "activation"},
    )
    result = swept("importance", "tiny", "--metric", "accurracy")
    assert "No trial of tiny has a metric 'accurracy'" in result.stderr
