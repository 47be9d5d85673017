from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lab.report import accuracy_interval, mean_interval, pareto_front, summaries

NUMBERS = st.one_of(st.integers(0, 4).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


def interval(values: list[float], within: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
    low, high = mean_interval(np.mean(values), np.std(values, ddof=1), len(values), within)
    return float(low), float(high)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30))
def test_without_bounds_the_interval_is_students(values: list[float]) -> None:
    std = np.std(values, ddof=1)
    assume(std > 1e-6)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), std / math.sqrt(len(values)))
    assert interval(values) == pytest.approx(expected)


@pytest.mark.parametrize("within", [(0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)])
@given(values=st.lists(st.floats(0, 1), min_size=3, max_size=30))
def test_no_interval_leaves_what_the_metric_can_be(within: tuple[float, float], values: list[float]) -> None:
    assume(np.std(values) > 0)
    low, high = interval(values, within)
    assert within[0] <= low <= high <= within[1]
    assert low <= np.mean(values) + 1e-9
    assert high >= np.mean(values) - 1e-9


@given(st.floats(0.2, 0.8), st.floats(-2e-4, 2e-4), st.floats(1e-5, 2e-4))
def test_far_from_the_bounds_an_interval_is_students_too(middle: float, shift: float, spread: float) -> None:
    values = [middle - spread, middle + shift, middle + spread]
    assert interval(values, (0.0, 1.0)) == pytest.approx(interval(values), abs=2e-5)


def test_the_interval_of_an_accuracy_is_that_of_svyciprop() -> None:
    # logit(0.95) -/+ t(2) * 0.02 / sqrt(3) / (0.95 * 0.05), as `svyciprop(method = "logit")` and SAS compute it
    half = 4.30265273 * 0.02 / math.sqrt(3) / (0.95 * 0.05)
    expected = [1 / (1 + math.exp(-(math.log(19) + sign * half))) for sign in (-1, 1)]
    assert interval([0.93, 0.95, 0.97], (0.0, 1.0)) == pytest.approx(expected)


@pytest.mark.parametrize("within", [(0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)])
@pytest.mark.parametrize("value", [0.5, 1.0])
def test_equal_values_have_no_interval(value: float, within: tuple[float, float]) -> None:
    assert np.isnan(
        interval([value] * 3, within)
    ).all()  # of no width, it would be sure of what three seeds cannot tell


def test_what_folds_share_widens_their_interval() -> None:
    values = [0.90, 0.92, 0.94, 0.91, 0.93]
    groups = pd.Series([0] * 5)
    folds = summaries(pd.Series(values), groups, folds=pd.Series(list("01234"))).loc[0]
    # Nadeau and Bengio: a fold of five is tested on a quarter of what it is trained on
    half = 2.77644511 * np.std(values, ddof=1) * math.sqrt(1 / 5 + 1 / 4)
    assert [folds["ci95_low"], folds["ci95_high"]] == pytest.approx([0.92 - half, 0.92 + half])
    seeds = summaries(pd.Series(values), groups, folds=pd.Series(["0"] * 5)).loc[0]
    assert seeds.to_dict() == summaries(pd.Series(values), groups).loc[0].to_dict()


def test_a_fold_that_has_no_value_is_not_counted() -> None:
    values, folds = pd.Series([0.90, 0.92, 0.94, math.nan]), pd.Series(list("0123"))
    of_four = summaries(values, pd.Series([0] * 4), folds=folds)
    of_three = summaries(values[:3], pd.Series([0] * 3), folds=folds[:3])
    pd.testing.assert_frame_equal(of_four, of_three)


@pytest.mark.parametrize(
    ("metric", "values"), [("val_accuracy", (93.1, 90.2, 91.4)), ("elbo_loss", (-3, -1, -2))]
)
def test_what_is_beyond_the_bounds_of_the_name_has_none(metric: str, values: tuple[float, ...]) -> None:
    named, other = (
        summaries(pd.Series(values), pd.Series([0, 0, 0]), metric=name).loc[0] for name in (metric, "score")
    )
    assert named.to_dict() == other.to_dict()


def test_two_values_have_no_interval() -> None:
    assert np.isnan(interval([0.1, 0.65])).all()  # 37 ± 345 % it would be


def test_one_models_accuracy_by_wilson() -> None:
    # 81 of 263 (Newcombe 1998, Statistics in Medicine 17, 857, table I)
    assert accuracy_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert accuracy_interval(29, 29)[1] == 1.0


def test_three_repeats_by_hand() -> None:
    table = summaries(pd.Series([0.9, 0.92, 0.94]), pd.Series([0, 0, 0]))
    half = 4.302653 * 0.02 / math.sqrt(3)
    ends = {"ci95_low": 0.92 - half, "ci95_high": 0.92 + half}
    assert table.loc[0].to_dict() == pytest.approx({"mean": 0.92, **ends, "n": 3, "best": 0.94, "worst": 0.9})


def test_what_is_no_number_does_not_count() -> None:
    values = pd.Series([1.0, math.nan, math.inf, 3.0, math.nan])
    table = summaries(values, pd.Series([0, 0, 0, 1, 2]), descending=False)
    assert table["n"].tolist() == [1, 1, 0]
    assert table["best"].tolist()[:2] == table["mean"].tolist()[:2] == [1.0, 3.0]
    assert table["ci95_low"].isna().all()
    assert table["ci95_high"].isna().all()
    assert table.loc[2].isna().tolist() == [True, True, True, False, True, True]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_the_front_is_what_nothing_dominates(trials: list[tuple[float, float]]) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] >= other[0] and one[1] <= other[1]

    known = [trial for trial in trials if all(map(math.isfinite, trial))]
    expected = [trial in known and not any(beats(other, trial) for other in known) for trial in trials]
    accuracy, params = zip(*trials, strict=True) if trials else ((), ())
    assert pareto_front(accuracy, params).tolist() == expected
