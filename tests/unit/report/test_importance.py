"""Tests of importance on made-up studies of which it is known what matters."""

from __future__ import annotations

import io
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lab.errors import StudyError
from lab.report import importance, importance_verdict, render_importance
from lab.report.importance import StudyImportance, _shares

VARIED = ("lr", "net", "depth")


def found(study: Any, **options: Any) -> StudyImportance:
    frame = study.board(repeats="each", **options)
    return importance(frame, study.varied, resamples=40)


def grid(memory_study: Any, value: Callable[[float, str, int], float], seeds: int = 1) -> Any:
    """Return a grid of 24 cells with these values and some noise."""
    study = memory_study((*VARIED, "seed"))
    noise = random.Random(0)
    for lr, net, depth in itertools.product((0.1, 0.2, 0.4), "ab", (1, 2, 3, 4)):
        for seed in range(seeds):
            mean = value(lr, net, depth)
            study.trial(
                {"lr": lr, "net": net, "depth": depth, "seed": seed}, best_value=mean + noise.gauss(0, 0.005)
            )
    return study


def said(result: StudyImportance) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(render_importance(result))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_matters_comes_first_and_what_does_not_is_said(memory_study: Any) -> None:
    result = found(grid(memory_study, lambda lr, net, depth: 0.5 + lr / 2 + 0.02 * (net == "a")))
    first, second, third = result.dimensions
    assert (first.name, second.name, third.name) == ("lr", "net", "depth")
    assert first.best.low <= first.best.value <= first.best.high <= 1
    assert first.overall.value > 0.8
    for share in (share for each in result.dimensions for share in (each.best, each.overall)):
        assert share.low <= share.value <= share.high
    assert (first.is_clear, second.is_clear, third.is_clear) == (True, True, False)
    assert (result.best_leader, result.overall_leader) == (None, first)
    verdict = importance_verdict(result)
    assert verdict.startswith("Of 24 cells: lr mattered most for val_accuracy overall: ")
    assert "; which one makes the best is not sure (first in the resamples: lr in " in verdict
    assert verdict.endswith("%). No effect of depth can be told from chance.")


def test_noise_is_not_important(memory_study: Any) -> None:
    result = found(grid(memory_study, lambda lr, net, depth: 0.5))
    assert (result.best_leader, result.overall_leader) == (None, None)
    assert "in 24 cells, no effect stands out from chance" in importance_verdict(result)


def test_an_interaction_is_told_from_two_effects(memory_study: Any) -> None:
    result = found(
        grid(memory_study, lambda lr, net, depth: 0.5 + (0.1 if (net == "a") == (depth > 2) else 0))
    )
    pair = result.interactions[0]
    assert {pair.first, pair.second} == {"net", "depth"}
    assert pair.share == pytest.approx(1, abs=0.02)
    assert pair.is_clear
    assert not any(other.is_clear for other in result.interactions[1:])
    assert "net and depth" in said(result)
    # neither explains anything of the variance by itself, so their shares are far from adding up to all of it
    assert sum(each.overall.value for each in result.dimensions) < 0.5


def test_the_f_test_of_a_balanced_grid_is_the_analysis_of_variance(memory_study: Any) -> None:
    # Montgomery, Design and Analysis of Experiments, ex. 5.1 in cell means: F by hand
    study = memory_study(("a", "b"))
    values = {
        ("1", "1"): 3.0,
        ("1", "2"): 5.0,
        ("1", "3"): 6.0,
        ("2", "1"): 7.0,
        ("2", "2"): 8.0,
        ("2", "3"): 11.0,
    }
    for (a, b), value in values.items():
        study.trial({"a": a, "b": b}, best_value=value)
    result = found(study)
    p = {each.name: each.p for each in result.dimensions}
    # SS(a) = 24, SS(b) = 49/3 - ..., error 1: F(a) = 24 / 0.5 with 1 and 2, F(b) = 6.1667 / 0.5 with 2 and 2
    grand = sum(values.values()) / 6
    rows = [sum(values[a, b] for b in "123") / 3 for a in "12"]
    columns = [sum(values[a, b] for a in "12") / 2 for b in "123"]
    of_a, of_b = (
        3 * sum((mean - grand) ** 2 for mean in rows),
        2 * sum((mean - grand) ** 2 for mean in columns),
    )
    error = sum((value - grand) ** 2 for value in values.values()) - of_a - of_b
    from scipy.stats import f

    expected = {"a": f.sf(of_a / (error / 2), 1, 2), "b": f.sf(of_b / 2 / (error / 2), 2, 2)}
    smaller = min(expected, key=expected.__getitem__)
    assert p[smaller] == pytest.approx(2 * expected[smaller])
    assert math.isnan(result.interactions[0].p)  # nothing is left to compare it with


def test_repeats_are_averaged_first(memory_study: Any) -> None:
    result = found(grid(memory_study, lambda lr, net, depth: lr, seeds=2))
    assert (result.cells, result.trials) == (24, 48)
    assert "24 cells (48 trials)" in said(result)


def test_a_search_with_a_log_range_and_a_conditional_dimension(memory_study: Any) -> None:
    study = memory_study(("lr", "optimizer", "momentum"))
    chosen = random.Random(1)
    for _ in range(40):
        lr, optimizer = 10 ** chosen.uniform(-4, -1), chosen.choice(["adam", "sgd"])
        momentum = {"momentum": f"{chosen.uniform(0, 0.99):.17f}"} if optimizer == "sgd" else {}
        value = 0.9 - 0.1 * abs(math.log10(lr) + 2.5) + chosen.gauss(0, 0.01)
        study.trial({"lr": f"{lr:.17f}", "optimizer": optimizer, **momentum}, best_value=value)
    frame = study.board(repeats="each")
    plain = {"low": 0, "high": 1, "log": False, "step": None}
    frame.attrs["ranges"] = {"lr": {**plain, "log": True}, "momentum": plain}
    result = importance(frame, study.varied, resamples=40)
    assert result.best_leader is not None
    assert result.best_leader.name == "lr"
    by_name = {each.name: each for each in result.dimensions}
    assert by_name["momentum"].cells < 40 == by_name["lr"].cells
    assert math.isnan(by_name["momentum"].overall.value)
    assert not math.isnan(by_name["optimizer"].p)  # although the momentum tells which one it is


def test_with_few_cells_nothing_is_said(memory_study: Any) -> None:
    study = memory_study(("lr",))
    for lr in range(4):
        study.trial({"lr": lr}, best_value=lr / 10)
    result = found(study)
    assert result.best_leader is None
    assert importance_verdict(result).endswith("what mattered for val_accuracy: 4; at least 10 are needed.")


def test_a_metric_that_falls(memory_study: Any) -> None:
    study = memory_study(("lr",))
    for lr, trial in itertools.product(range(3), range(5)):
        study.trial({"lr": lr, "x": trial}, val_loss=lr / 10 + trial / 1000)
    result = found(study, metric="val_loss")
    assert result.metric == "val_loss"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [],
            "needs at least two cells with a finite val_accuracy, but found 0 cells among 0 trials",
        ),
        (
            [0.5],
            "needs at least two cells with a finite val_accuracy, but found 1 cell among 1 trial",
        ),
        ([math.nan, None, 0.5], "but found 1 cell among 3 trials"),
        ([0.5, 0.5], "All 2 cells have the same val_accuracy, 0.5: nothing made a difference"),
    ],
)
def test_what_cannot_be_compared(memory_study: Any, values: list[float | None], message: str) -> None:
    study = memory_study(("lr",))
    for lr, value in enumerate(values):
        study.trial({"lr": lr}, **({} if value is None else {"best_value": value}))
    with pytest.raises(StudyError, match=message):
        found(study)


def test_nothing_varies_but_seeds(memory_study: Any) -> None:
    study = memory_study(("seed",))
    for seed in range(3):
        study.trial({"seed": seed}, best_value=seed / 10)
    with pytest.raises(StudyError, match="found 0 cells"):
        found(study)


def test_resamples_that_tell_nothing_have_no_leader() -> None:
    """fANOVA refuses resamples in which hardly any values differ: their shares are zeros."""
    drawn = np.array([[0.0, 0.0]] * 96 + [[0.3, 0.7]] * 4)
    found = _shares(["lr", "depth"], np.array([0.3, 0.7]), drawn)
    assert (found["lr"].first, found["depth"].first) == (0.0, 0.04)
