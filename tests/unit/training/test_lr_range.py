"""The learning-rate range test: how the rate rises, when it stops, and what it suggests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lab.training import Interrupted, LrCurve, RatePoint, range_test
from lab.training.lr_range import rates
from tests.trainers import new_trainer

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "depth": 1,
    "width": 8,
    "batch_size": 64,
    "threads": 1,
    "scheduler": "one_cycle",  # as all schedules, it is left alone
}


def points(
    lowest: float = 1e-5,
    highest: float = 100.0,
    steps: int = 60,
    should_stop: Callable[[], bool] = lambda: False,
    **values: Any,
) -> list[RatePoint]:
    trainer = new_trainer(should_stop, **{**TINY, **values})
    return list(range_test(trainer, lowest=lowest, highest=highest, steps=steps))


def curve(losses: list[float], planned: int = 0) -> LrCurve:
    found = [RatePoint(at + 1, 10 ** (-6 + at / 10), loss) for at, loss in enumerate(losses)]
    return LrCurve(tuple(found), planned or len(losses))


def test_the_rate_rises_by_the_same_factor_at_each_step() -> None:
    assert list(rates(0.001, 1.0, 4)) == pytest.approx([0.001, 0.01, 0.1, 1.0])


def test_it_suggests_a_rate_that_trains_and_stops_once_the_loss_has_diverged() -> None:
    found = points()
    assert [point.step for point in found] == list(range(1, len(found) + 1))
    assert len(found) < 60
    suggestion = LrCurve(tuple(found), 60).suggestion
    assert suggestion is not None
    assert 1e-4 < suggestion < 0.3


def test_it_goes_on_from_epoch_to_epoch_and_accumulates() -> None:
    found = points(highest=1e-4, steps=25, accumulate=2)  # an epoch has 15 steps of two batches
    assert len(found) == 25
    assert all(math.isfinite(point.loss) for point in found)


def test_it_is_the_same_every_time() -> None:
    assert points(steps=20, dropout=0.2) == points(steps=20, dropout=0.2)


def test_a_loss_that_is_not_finite_ends_it() -> None:
    found = points(lowest=1e25, highest=1e38, steps=20, optimizer="sgd")
    assert len(found) < 20
    assert all(math.isfinite(point.loss) for point in found)


def test_it_can_be_stopped() -> None:
    answers = iter([False] * 3 + [True])
    with pytest.raises(Interrupted, match="asked to stop"):
        points(should_stop=lambda: next(answers))


def test_the_suggestion_is_where_the_loss_falls_most_steeply() -> None:
    falling = [2.0 - 1.5 / (1 + math.exp(-(at - 30) / 2)) for at in range(50)]
    assert curve([*falling, 3.0, 9.0], 60).suggestion == pytest.approx(10**-3, rel=0.3)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]], ids=str)
def test_without_a_descent_there_is_no_suggestion(losses: list[float]) -> None:
    assert curve(losses).suggestion is None


def test_smoothing_shifts_nothing_and_keeps_a_constant() -> None:
    assert curve([2.0] * 30).smoothed == pytest.approx([2.0] * 30)
    peaked = curve([0.0] * 20 + [1.0] + [0.0] * 20).smoothed
    assert peaked.index(max(peaked)) == 20
