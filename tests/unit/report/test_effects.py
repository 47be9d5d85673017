from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from lab.report import effects, render_effects


@pytest.fixture
def factorial(memory_study: Any) -> Any:
    study = memory_study(("lr", "net"))
    values = {("0.1", "a"): 0.5, ("0.1", "b"): 0.7, ("0.2", "a"): 0.6, ("0.2", "b"): 1.0}
    for (lr, net), value in values.items():
        study.trial({"lr": lr, "net": net}, best_value=value, seconds=10 * value)
    return study


def test_marginal_means_by_hand(factorial: Any) -> None:
    table = effects(factorial.board(repeats="each"), ["lr", "net"])
    assert table.columns.tolist() == ["dimension", "value", "mean", "ci95", "n", "left_out", "best"]
    assert table["dimension"].tolist() == ["lr", "lr", "net", "net"]
    assert table["value"].tolist() == ["0.2", "0.1", "b", "a"]
    assert table["mean"].tolist() == pytest.approx([0.8, 0.6, 0.85, 0.55])
    assert table["best"].tolist() == [1.0, 0.7, 1.0, 0.6]
    # the mean of 0.6 and 1.0: t of one degree of freedom, their standard deviation, the root of two
    assert table["ci95"].iloc[0] == pytest.approx(12.7062 * 0.2828427 / 2**0.5, rel=1e-5)


def test_another_metric_and_direction(factorial: Any) -> None:
    frame = factorial.board(repeats="each")
    table = effects(frame, ["net"], "seconds", descending=False)
    assert table["value"].tolist() == ["a", "b"]
    assert table["best"].tolist() == [5.0, 7.0]


def test_seeds_are_repeats(memory_study: Any) -> None:
    study = memory_study(("net", "seed"))
    for seed in range(3):
        study.trial({"net": "a", "seed": seed}, best_value=0.5)
    assert effects(study.board(repeats="each"), ["net", "seed"])["n"].tolist() == [3]
    assert effects(study.board(repeats="each"), ["seed"])["n"].tolist() == [1, 1, 1]


def test_what_has_no_value_is_left_out_and_counted(memory_study: Any) -> None:
    study = memory_study(("lr",))
    study.trial({"lr": 1}, "diverged", best_value=0.3)
    study.trial({"lr": 2}, best_value=0.5)
    study.trial({"lr": 2}, "diverged", best_value=0.1)
    study.trial({"lr": 2}, "failed")
    study.trial({"lr": 3}, "failed")
    table = effects(study.board(repeats="each"), ["lr"]).set_index("value")
    assert table["n"].to_dict() == {"2": 1, "1": 1, "3": 0}
    assert table["left_out"].to_dict() == {"2": 2, "1": 0, "3": 1}
    assert table["mean"].dropna().to_dict() == {"2": 0.5, "1": 0.3}


def test_nothing_to_compare(memory_study: Any) -> None:
    study = memory_study(("lr",))
    assert effects(study.board(), ["lr"]).empty
    study.trial({"lr": 1}, best_value=0.5)
    assert effects(study.board(), []).empty


def test_printed_by_dimension() -> None:
    frame = pd.DataFrame(
        {
            "dimension": ["lr", "lr", "net"],
            "value": ["0.1", None, "[red]"],
            "mean": [0.5, 0.4, float("nan")],
            "ci95": [0.012, float("nan"), float("nan")],
            "n": [3, 1, 0],
            "left_out": [0, 0, 2],
            "best": [0.6, 0.4, float("nan")],
        }
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(render_effects(frame, metric="test_accuracy", title="s"))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["lr", "0.1", "50.00%", "1.20%", "60.00%", "3"] in lines
    assert ["–", "40.00%", "–", "40.00%", "1"] in lines
    assert ["net", "[red]", "–", "–", "–", "0", "2"] in lines
