"""Tests of differences, checked against published examples and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lab.report.differences import corrected, difference, holm, mcnemar

# Hollander and Wolfe (1973), 29f: depression of nine patients before and after; R's help of wilcox.test has the results
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def test_pairs_of_cells_by_signed_ranks() -> None:
    found = difference(BEFORE, AFTER, pairs="cell")
    assert found.test == "Wilcoxon's signed-rank test"
    assert (found.value, found.low, found.high) == pytest.approx((0.46, 0.01, 0.786))
    assert found.p == pytest.approx(0.03906, abs=1e-5)
    assert found.is_clear


def test_a_cell_that_fails_does_not_hide_what_all_others_say() -> None:
    a = [0.9 + number / 1000 for number in range(16)]
    b = [value - 0.005 for value in a]
    a[0] = 0.1
    found = difference(a, b, pairs="cell", metric="val_accuracy")
    assert found.value == pytest.approx(0.005)
    assert found.is_clear
    assert not difference(a, b, pairs="seed").is_clear


# Student (1908): additional hours of sleep by two drugs; R's help of t.test
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_pairs_of_seeds_by_the_paired_t_test() -> None:
    found = difference(*SLEEP, pairs="seed")
    assert found.test == "paired t-test"
    assert (found.value, found.low, found.high) == pytest.approx((-1.58, -2.4598858, -0.7001142))
    assert found.p == pytest.approx(0.002833, abs=1e-6)


def test_pairs_of_folds_by_the_corrected_t_test() -> None:
    found, plain = difference(*SLEEP, pairs="fold"), difference(*SLEEP, pairs="seed")
    assert found.test == "corrected t-test"
    assert found.value == plain.value
    # scikit-learn's example of comparing models: corrected_std = sqrt(var * (1 / k + n_test / n_train)), here 1 / 9
    t = -4.062128 * math.sqrt(1 / 10 / (1 / 10 + 1 / 9))
    assert found.p == pytest.approx(2 * stats.t.cdf(t, 9), abs=1e-6)
    assert found.p > 7 * plain.p
    assert (found.low, found.high) == pytest.approx(
        (-1.58 + 2.262157 * 1.58 / t, -1.58 - 2.262157 * 1.58 / t)
    )


def test_samples_that_are_not_paired_by_welch() -> None:
    found = difference(*SLEEP)
    assert found.test == "Welch's t-test"
    assert (found.value, found.low, found.high) == pytest.approx((-1.58, -3.3654832, 0.2054832))
    assert found.p == pytest.approx(0.07939, abs=1e-5)
    assert not found.is_clear


@pytest.mark.filterwarnings("error")
def test_one_sample_without_spread_is_no_warning() -> None:
    found = difference([0.9, 0.9, 0.9], [0.8, 0.81, 0.82])
    assert found.test == "Welch's t-test"
    # with one variance of 0, it is the test of a single sample against 0.9
    assert found.p == pytest.approx(stats.ttest_1samp([0.8, 0.81, 0.82], 0.9).pvalue)


@pytest.mark.parametrize(
    ("a", "b"), [([0.1], [0.2]), ([0.1, 0.2], [0.3, 0.4]), ([0.1, 0.2, 0.3], [0.4, 0.5])]
)
def test_too_few_values_for_a_test(a: list[float], b: list[float]) -> None:
    found = difference(a, b)
    assert (found.test, found.is_clear) == ("", False)
    assert math.isnan(found.low)
    assert math.isnan(found.p)


PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12)


@given(PAIRS, st.sampled_from(["seed", "cell", ""]))
def test_swapping_the_sides_changes_only_the_sign(pairs: list[tuple[float, float]], of: str) -> None:
    a, b = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    one, other = (difference(*sides, pairs=of, metric="val_accuracy") for sides in ((a, b), (b, a)))
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), nan_ok=True)
    assert one.p == pytest.approx(other.p, nan_ok=True)
    assert math.isnan(one.low) or -1 <= one.low <= one.high <= 1


def test_identical_values_are_no_difference() -> None:
    found = difference([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], pairs="seed")
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(("pairs", "p"), [("seed", 0.25), ("", 0.1)])
def test_without_any_spread_three_values_are_not_enough(pairs: str, p: float) -> None:
    found = difference([0.9] * 3, [0.8] * 3, pairs=pairs)
    assert found.p == pytest.approx(p)  # the t-test would say 0
    assert not found.is_clear


def test_holms_correction() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_none_and_bonferroni(p: list[float]) -> None:
    found = holm(p)
    assert all(one <= two <= min(1, len(p) * one) + 1e-12 for one, two in zip(p, found, strict=True))
    assert all(np.diff(np.asarray(found)[np.argsort(p, kind="stable")]) >= 0)
    assert min(found) == pytest.approx(min(1, len(p) * min(p)))


def test_only_what_was_tested_is_corrected() -> None:
    single, many = difference([0.1], [0.2]), difference(*SLEEP, pairs="seed")
    found = corrected([single, many, many])
    assert math.isnan(found[0].p_corrected)
    assert found[1].p_corrected == pytest.approx(2 * many.p)


def test_mcnemar_by_hand() -> None:
    # 10 images that only A recognises, 2 that only B does: twice the chance of at most 2 heads in 12 tosses
    labels, a, b = [1] * 30, [1] * 25 + [0] * 5, [1] * 15 + [0] * 10 + [1] * 2 + [0] * 3
    found = mcnemar(labels, a, b)
    assert (found.images, found.a_correct, found.b_correct, found.only_a, found.only_b) == (30, 25, 17, 10, 2)
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert found.value == pytest.approx(8 / 30)
    assert found.is_clear == (found.low > 0)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_interval_of_mcnemar_says_what_its_test_says(only_a: int, only_b: int) -> None:
    labels = [1] * (only_a + only_b + 5)
    a, b = [1] * only_a + [0] * only_b + [1] * 5, [0] * only_a + [1] * only_b + [0] * 5
    b[-5:] = a[-5:]
    found = mcnemar(labels, a, b)
    assert found.low <= found.value <= found.high
    assert found.is_clear == (not found.low <= 0 <= found.high)
    if only_a + only_b:
        assert found.p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
