from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lab.report import half_width, pareto_front, summaries

NUMBERS = st.one_of(st.integers(0, 4).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_interval_is_students(values: list[float]) -> None:
    std = np.std(values, ddof=1)
    assume(std > 1e-6)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), std / math.sqrt(len(values)))
    assert float(half_width(std, len(values))) == pytest.approx((high - low) / 2)


def test_three_repeats_by_hand() -> None:
    table = summaries(pd.Series([0.9, 0.92, 0.94]), pd.Series([0, 0, 0]))
    assert table.loc[0].to_dict() == pytest.approx(
        {"mean": 0.92, "ci95": 4.302653 * 0.02 / math.sqrt(3), "n": 3, "best": 0.94}
    )


def test_what_is_no_number_does_not_count() -> None:
    values = pd.Series([1.0, math.nan, math.inf, 3.0, math.nan])
    table = summaries(values, pd.Series([0, 0, 0, 1, 2]), descending=False)
    assert table["n"].tolist() == [1, 1, 0]
    assert table["best"].tolist()[:2] == table["mean"].tolist()[:2] == [1.0, 3.0]
    assert table["ci95"].isna().all()
    assert table.loc[2].isna().tolist() == [True, True, False, True]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_the_front_is_what_nothing_dominates(trials: list[tuple[float, float]]) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] >= other[0] and one[1] <= other[1]

    known = [trial for trial in trials if all(map(math.isfinite, trial))]
    expected = [trial in known and not any(beats(other, trial) for other in known) for trial in trials]
    accuracy, params = zip(*trials, strict=True) if trials else ((), ())
    assert pareto_front(accuracy, params).tolist() == expected
