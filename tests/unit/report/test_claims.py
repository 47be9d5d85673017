"""Whether claims hold, by runs whose accuracies are chosen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lab.config import parse_grid
from lab.report import grid_results, results_document
from lab.report.claims import JudgedClaim
from tests.memory_study import MemoryStudy

GRID = """
name: s
base: {dataset: synthetic, image_size: 8, width: 4}
grid:
  net: {a: {norm: none}, b: {norm: batch}, c: {activation: tanh}}
  lr: [0.1, 0.2, 0.3]
claims:
  - {claim: It is so, %s}
"""
LRS = (0.1, 0.2, 0.3)


class Runs:
    """Runs of GRID with one claim: `add("b", 0.1, [0.7, 0.8])` has a run for each seed."""

    def __init__(self, claim: str) -> None:
        self.grid = parse_grid(GRID % claim, "grids/s.yaml")
        self.study = MemoryStudy(["net", "lr"])

    def add(self, net: str, lr: float, accuracies: Sequence[float], outcome: str = "completed") -> Runs:
        for seed, accuracy in enumerate(accuracies):
            point = {"net": net, "lr": lr}
            params: Mapping[str, object] = {**self.grid.config(point).as_params(), **point, "seed": seed}
            self.study.trial(params, outcome=outcome, test_accuracy=accuracy)
        return self

    def judged(self) -> JudgedClaim:
        found = grid_results(self.grid, self.study.runs())
        assert found is not None
        return found.claims[0]

    def row(self) -> list[str]:
        """Return the cells of the claim's line on the page."""
        text = results_document([(self.grid, grid_results(self.grid, self.study.runs()))], {}, "lab results")
        line = next(line for line in text.splitlines() if line.startswith("| It is so"))
        return [cell.strip() for cell in line.strip("| ").split(" | ")]


def against(claim: str, a: Sequence[float], b: Sequence[float]) -> JudgedClaim:
    return Runs(claim).add("a", 0.1, a).add("b", 0.1, b).judged()


BEATS = "cells: {net: b}, beats: {net: a}"
NO_BETTER = "cells: {net: b}, no_better_than: {net: a}, within: 0.01"
SAME = "cells: {net: b}, same_as: {net: a}, within: 0.01"


@pytest.mark.parametrize(
    ("claim", "a", "b", "verdict"),
    [
        (BEATS, [0.50, 0.51, 0.52], [0.60, 0.61, 0.63], "yes"),
        (BEATS, [0.60, 0.61, 0.63], [0.50, 0.51, 0.52], "no"),
        (BEATS, [0.50, 0.60, 0.70], [0.52, 0.59, 0.72], "cannot be told"),
        (BEATS, [0.50, 0.51], [0.60, 0.61], "cannot be told"),
        (SAME, [0.500, 0.510, 0.520], [0.501, 0.509, 0.521], "yes"),
        (SAME, [0.50, 0.51, 0.52], [0.60, 0.61, 0.63], "no"),
        (
            SAME,
            [0.50, 0.51, 0.52],
            [0.505, 0.515, 0.535],
            "cannot be told",
        ),  # clear, but perhaps within the margin
        (NO_BETTER, [0.60, 0.61, 0.63], [0.50, 0.51, 0.52], "yes"),
        (NO_BETTER, [0.50, 0.51, 0.52], [0.60, 0.61, 0.63], "no"),
        (NO_BETTER, [0.50, 0.60, 0.70], [0.52, 0.59, 0.72], "cannot be told"),
    ],
)
def test_a_difference_of_three_seeds(
    claim: str, a: Sequence[float], b: Sequence[float], verdict: str
) -> None:
    assert against(claim, a, b).verdict == verdict


def test_a_claim_on_the_page() -> None:
    runs = Runs(BEATS + ", note: by far").add("a", 0.1, [0.50, 0.51, 0.52]).add("b", 0.1, [0.60, 0.61, 0.63])
    assert runs.row() == [
        "It is so (by far)",
        "**yes**",
        "+10.33",
        "+8.90 to +11.77",
        "3 seeds",
        "[s](#s): net=b against net=a",
    ]


def test_two_repeats_show_their_values() -> None:
    runs = Runs(BEATS).add("a", 0.1, [0.50, 0.51]).add("b", 0.1, [0.60, 0.61])
    assert runs.row()[1:5] == [
        "**cannot be told**",
        "+10.00",
        "60.00 %, 61.00 % against 50.00 %, 51.00 %",
        "2 seeds",
    ]


def test_with_one_seed_the_cells_are_the_pairs() -> None:
    runs = Runs(BEATS)
    for lr in LRS:
        runs.add("a", lr, [0.5 + lr / 10]).add("b", lr, [0.6 + lr / 9])
    assert runs.row()[1] == "**yes**"
    assert runs.row()[4] == "3 cells"


def test_repeats_count_where_there_are_enough_and_diverged_ones_are_left_out() -> None:
    runs = Runs(BEATS)
    for lr in LRS[:2]:
        runs.add("a", lr, [0.50, 0.51, 0.52]).add("b", lr, [0.60, 0.61, 0.63])
    runs.add("a", 0.3, [0.5]).add("b", 0.3, [0.1], outcome="diverged")
    assert runs.row()[1:5] == ["**yes**", "+10.33", "+8.90 to +11.77", "3 seeds of 2 cells, 1 run left out"]


@pytest.mark.parametrize(
    ("repeated", "of", "verdict", "n"),
    [
        (
            1,
            2,
            "**cannot be told**",
            "1 seed of 2 cells",
        ),  # what the repeats say is refuted by the other cell
        (1, 3, "**cannot be told**", "3 cells"),
        (2, 3, "**no**", "3 seeds of 2 of 3 cells"),  # one that lacks repeats is left out
    ],
)
def test_repeats_of_the_fewer_cells_do_not_decide(repeated: int, of: int, verdict: str, n: str) -> None:
    runs = Runs(BEATS)
    for lr in LRS[:repeated]:
        runs.add("a", lr, [0.60, 0.61, 0.63]).add("b", lr, [0.50, 0.51, 0.52])
    for lr in LRS[repeated:of]:
        runs.add("a", lr, [0.5]).add("b", lr, [0.9])
    row = runs.row()
    assert (row[1], row[4]) == (verdict, n)


def test_cells_that_only_one_side_has_do_not_count() -> None:
    runs = Runs(BEATS).add("a", 0.1, [0.5, 0.51, 0.52]).add("b", 0.2, [0.6, 0.61, 0.63])
    assert runs.row()[1:5] == ["**cannot be told**", "–", "–", "–"]


@pytest.mark.parametrize(
    ("accuracies", "verdict", "decides"),
    [
        ((0.5, 0.6, 0.7), "yes", "net=b against net=a (one of 2)"),
        ((0.6, 0.5, 0.7), "no", "net=b against net=a (one of 2)"),
        ((0.5, 0.7, 0.6), "no", "net=c against net=b (one of 2)"),
        ((0.5, 0.6, None), "cannot be told", "net=c against net=b (one of 2)"),
    ],
)
def test_rising_holds_only_if_every_step_does(
    accuracies: Sequence[float | None], verdict: str, decides: str
) -> None:
    runs = Runs("rising: {net: [a, b, c]}")
    for net, accuracy in zip("abc", accuracies, strict=True):
        if accuracy is not None:
            runs.add(net, 0.1, [accuracy, accuracy + 0.01, accuracy + (0.02 if net == "b" else 0.03)])
    assert runs.row()[1] == f"**{verdict}**"
    assert runs.row()[5] == f"[s](#s): {decides}"


def test_several_comparisons_refute_a_claim_only_after_their_correction() -> None:
    """One step down with p = 0.03 refutes a claim of one comparison, but not one of three."""
    worse, better = [0.600, 0.600, 0.600], [0.606, 0.608, 0.612]
    alone = Runs("cells: {net: a}, beats: {net: b}").add("a", 0.1, worse).add("b", 0.1, better)
    many = Runs("cells: {net: a}, beats: {net: [b, c]}").add("a", 0.1, worse).add("b", 0.1, better)
    many.add("c", 0.1, [0.59, 0.60, 0.605])
    assert (alone.judged().verdict, many.judged().verdict) == ("no", "cannot be told")


def test_the_correction_is_of_the_test_against_the_margin() -> None:
    """1.8 points are clear of zero by far, but of the margin of one point only where there is no other comparison."""
    a, b = [0.500, 0.510, 0.520], [0.5155, 0.5285, 0.5405]
    alone = Runs(NO_BETTER).add("a", 0.1, a).add("b", 0.1, b)
    many = (
        Runs("cells: {net: b}, no_better_than: {net: [a, c]}, within: 0.01").add("a", 0.1, a).add("b", 0.1, b)
    )
    many.add("c", 0.1, [0.50, 0.53, 0.54])
    assert (alone.judged().verdict, many.judged().verdict) == ("no", "cannot be told")


def test_several_cells_refute_a_bound_only_after_their_correction() -> None:
    """An interval just above the bound refutes it for one cell, but not for the worst of two; two far above do."""
    near, far = [0.2057, 0.2087, 0.2117], [0.3, 0.31, 0.3]
    verdicts = []
    for cells in ([near], [near, [0.19, 0.2, 0.21]], [far, [0.19, 0.2, 0.21]], [far, near]):
        runs = Runs("cells: {net: a}, below: 0.2")
        for lr, accuracies in zip(LRS, cells, strict=False):
            runs.add("a", lr, accuracies)
        verdicts.append(runs.judged().verdict)
    assert verdicts == ["no", "cannot be told", "no", "no"]


@pytest.mark.parametrize(
    ("accuracies", "verdict", "shown"),
    [
        ([0.10, 0.11, 0.10], "yes", "8.98 % to 11.86 %"),
        ([0.30, 0.31, 0.30], "no", "28.92 % to 31.79 %"),
        ([0.10, 0.31, 0.10], "cannot be told", "2.37 % to 63.39 %"),
        ([0.10, 0.11], "cannot be told", "n=2: 10.00 %, 11.00 %"),
    ],
)
def test_an_accuracy_below_a_bound(accuracies: Sequence[float], verdict: str, shown: str) -> None:
    runs = Runs("cells: {net: a}, below: 0.2").add("a", 0.1, accuracies)
    assert runs.row()[1] == f"**{verdict}**"
    assert runs.row()[3] == shown


@pytest.mark.parametrize(
    ("outcomes", "verdict", "shown"),
    [
        (["diverged"] * 3, "**yes**", ["3 of 3", "44 % to 100 %", "3 runs"]),
        (["diverged", "diverged", "completed"], "**no**", ["2 of 3", "21 % to 94 %", "3 runs"]),
        (["diverged", "diverged", "failed"], "**cannot be told**", ["2 of 2", "–", "2 runs"]),
    ],
)
def test_an_outcome_is_that_of_every_run(outcomes: Sequence[str], verdict: str, shown: list[str]) -> None:
    runs = Runs("cells: {net: a}, outcome: diverged")
    for lr, outcome in zip(LRS, outcomes, strict=True):
        runs.add("a", lr, [0.1], outcome=outcome)
    assert runs.row()[1:5] == [verdict, *shown]


@pytest.mark.parametrize(
    "claim", [BEATS, "cells: {net: b}, below: 0.2", "cells: {net: b}, outcome: diverged"]
)
def test_what_was_not_run(claim: str) -> None:
    runs = Runs(claim).add("c", 0.1, [0.5])
    assert runs.row()[1:] == ["not run", "–", "–", "–", "s"]
    text = results_document([(runs.grid, None)], {}, "lab results")
    assert "| It is so | not run | – | – | – | s |" in text
    assert "Of 1 claim: 1 not run." in text


def test_no_interval_leaves_what_an_accuracy_can_be() -> None:
    """Of three values, however they lie: a share is from 0 to 1, a difference of shares from -1 to 1."""
    accuracies = (0.0, 0.99, 1.0)
    for values in itertools.product(accuracies, repeat=3):
        low, high = ends(against(BEATS, [0.0, 0.02, 1.0], values))
        assert -100 <= low <= high <= 100
    # these are not paired, so their order is nothing
    for values in itertools.combinations_with_replacement(accuracies, 3):
        if len(set(values)) > 1:
            low, high = ends(Runs("cells: {net: a}, below: 0.2").add("a", 0.1, values).judged())
            assert 0 <= low <= high <= 100


@pytest.mark.parametrize(("value", "verdict"), [(0.1135, "**yes**"), (0.5, "**no**")])
def test_equal_values_are_below_a_limit_or_not(value: float, verdict: str) -> None:
    runs = Runs("cells: {net: a}, below: 0.2").add("a", 0.1, [value] * 3)
    assert runs.row()[1] == verdict


def ends(judged: JudgedClaim) -> tuple[float, float]:
    assert judged.finding is not None
    low, _, high = judged.finding.interval.replace("%", "").partition(" to ")
    return float(low), float(high)


def test_a_grid_without_claims_has_no_table(memory_study: Any) -> None:
    grid = parse_grid("name: s\nbase: {dataset: synthetic}", "s.yaml")
    assert "Do the claims hold?" not in results_document([(grid, None)], {}, "lab results")
