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
    assert table.columns.tolist() == [
        *("dimension", "value", "mean", "ci95_low", "ci95_high", "n", "left_out", "best", "worst"),
        "same_cells",
    ]
    assert table["dimension"].tolist() == ["lr", "lr", "net", "net"]
    assert table["value"].tolist() == ["0.2", "0.1", "b", "a"]
    assert table["mean"].tolist() == pytest.approx([0.8, 0.6, 0.85, 0.55])
    assert table["best"].tolist() == [1.0, 0.7, 1.0, 0.6]
    assert table["worst"].tolist() == [0.6, 0.5, 0.7, 0.5]
    assert table["ci95_low"].isna().all()  # two values


def test_an_interval_by_hand(factorial: Any) -> None:
    frame = factorial.board(repeats="each")
    frame["net"] = "c"
    # of 50, 60, 70 and 100: t with three degrees of freedom, their standard deviation, the square root of four
    frame["mine"] = frame["best_value"] * 100
    table = effects(frame, ["net"], "mine")
    half = 3.182446 * 21.602469 / 2
    assert table[["ci95_low", "ci95_high"]].to_numpy()[0] == pytest.approx([70 - half, 70 + half], rel=1e-5)


@pytest.mark.parametrize(
    ("metric", "values", "lowest", "highest"),
    [
        ("val_loss", (0.1, 0.9, 2.0), 0, float("inf")),
        ("macro_f1", (0.98, 1.0, 1.0), 0, 1),
        ("best_value", (0.0, 0.5, 1.0), 0, 1),
    ],
)
def test_no_interval_is_wider_than_what_the_metric_can_be(
    memory_study: Any, metric: str, values: tuple[float, ...], lowest: float, highest: float
) -> None:
    study = memory_study(("lr", "net"))
    for net, value in enumerate(values):
        study.trial({"lr": 1, "net": net}, **{metric: value})
    table = effects(study.board(repeats="each", metric=metric), ["lr"])
    (low, high), mean = table[["ci95_low", "ci95_high"]].to_numpy()[0], sum(values) / 3
    assert lowest <= low < mean < high <= highest


def test_values_from_a_range_are_put_together(memory_study: Any) -> None:
    study = memory_study(("lr", "momentum"))
    for number in range(16):
        momentum = {} if number % 2 else {"momentum": number / 20}
        study.trial({"lr": f"{0.001 * 1.5**number:.17f}", **momentum}, best_value=0.5 + number / 100)
    frame = study.board(repeats="each")
    assert effects(frame, ["lr"])["n"].tolist() == [1] * 16  # a grid's values are what the user listed
    frame.attrs["ranges"] = ["lr", "momentum"]
    table = effects(frame, ["lr", "momentum"])
    lr = table[table["dimension"] == "lr"]
    assert lr["n"].tolist() == [4, 4, 4, 4]
    assert lr["value"].tolist()[0] == "0.13 to 0.438"
    assert lr["mean"].tolist() == pytest.approx([0.635, 0.595, 0.555, 0.515])
    momentum = table[table["dimension"] == "momentum"].set_index("value", drop=False)
    assert momentum["n"].tolist()[momentum["value"].isna().argmax()] == 8
    assert set(momentum["n"]) == {8, 2}


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


def test_values_are_compared_over_the_cells_that_all_of_them_have(memory_study: Any) -> None:
    study = memory_study(("net", "lr", "seed"))
    for lr, value in (("0.1", 0.9), ("0.01", 0.7), ("0.001", 0.5)):
        for seed in (0, 1):
            study.trial({"net": "a", "lr": lr, "seed": seed}, best_value=value)
            if lr != "0.1":  # excluded
                study.trial({"net": "b", "lr": lr, "seed": seed}, best_value=value + 0.01)
    table = effects(study.board(repeats="each"), ["net"])
    assert table["value"].tolist() == ["b", "a"]
    assert table["mean"].tolist() == pytest.approx([0.61, 0.6])
    assert table[["n", "left_out", "same_cells"]].to_numpy().tolist() == [[4, 0, True], [4, 2, True]]


def test_a_setting_of_one_value_only_is_no_reason_to_compare_less(memory_study: Any) -> None:
    study = memory_study(("optimizer", "momentum", "lr"))
    for lr, value in (("0.1", 0.7), ("0.2", 0.5)):
        study.trial({"optimizer": "adam", "lr": lr}, best_value=value)
        for momentum in ("0", "0.9"):
            params = {"optimizer": "sgd", "momentum": momentum, "lr": lr}
            study.trial(params, best_value=value + float(momentum) / 10)
    table = effects(study.board(repeats="each"), study.varied)
    assert table["same_cells"].all()
    assert table["left_out"].tolist() == [0] * 7


def test_without_enough_cells_in_common_all_trials_count(memory_study: Any) -> None:
    study = memory_study(("net", "lr"))
    for number in range(6):
        study.trial(
            {"net": "ab"[number % 2], "lr": number // (2 if number < 2 else 1)}, best_value=number / 10
        )
    table = effects(study.board(repeats="each"), ["net"])
    assert table[["value", "n", "same_cells"]].to_numpy().tolist() == [["b", 3, False], ["a", 3, False]]


def test_nothing_to_compare(memory_study: Any) -> None:
    study = memory_study(("lr",))
    assert effects(study.board(), ["lr"]).empty
    study.trial({"lr": 1}, best_value=0.5)
    assert effects(study.board(), []).empty


def test_printed_by_dimension() -> None:
    frame = pd.DataFrame(
        {
            "dimension": ["lr", "lr", "net", "net"],
            "value": ["0.1", None, "[red]", "two"],
            "mean": [0.5, 0.4, float("nan"), 0.3],
            "ci95_low": [0.4012, float("nan"), float("nan"), float("nan")],
            "ci95_high": [0.612, float("nan"), float("nan"), float("nan")],
            "n": [3, 1, 0, 2],
            "left_out": [0, 0, 2, 0],
            "best": [0.6, 0.4, float("nan"), 0.5],
            "worst": [0.4, 0.4, float("nan"), 0.1],
            "same_cells": [True, True, False, False],
        }
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(render_effects(frame, metric="test_accuracy", title="s"))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["lr", "0.1", "50.00%", "40.12%", "to", "61.20%", "60.00%", "3"] in lines
    assert ["two", "30.00%", "n=2:", "10.00%,", "50.00%", "50.00%", "2"] in lines
    assert ["–", "40.00%", "–", "40.00%", "1"] in lines
    assert ["net", "[red]", "–", "–", "–", "0", "2"] in lines
    assert lines[-2][:5] == ["net:", "not", "the", "same", "cells,"]
