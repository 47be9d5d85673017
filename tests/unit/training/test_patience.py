"""Patience, compared with a naive reference that sees the whole history."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.training import Patience

values = st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(math.nan)), max_size=30)


def naive(history: list[float], mode: str, patience: int, min_delta: float) -> tuple[int | None, int]:
    """Return the best epoch (1-based), and the number of epochs after which training stops."""
    best, best_epoch = None, None
    for epoch, value in enumerate(history, start=1):
        gain = math.nan if best is None else (value - best if mode == "max" else best - value)
        if not math.isnan(value) and (best is None or gain > min_delta):
            best, best_epoch = value, epoch
        if epoch - (best_epoch or 0) >= patience:
            return best_epoch, epoch
    return best_epoch, len(history)


@given(values, st.sampled_from(["max", "min"]), st.integers(1, 5), st.sampled_from([0.0, 1.0]))
def test_stops_and_selects_as_the_reference(
    history: list[float], mode: str, patience: int, min_delta: float
) -> None:
    watch = Patience(mode, patience, min_delta)
    stopped = 0
    for epoch, value in enumerate(history, start=1):
        watch.update(epoch, value)
        stopped = epoch
        if watch.exhausted:
            break
    assert (watch.best_epoch, stopped) == naive(history, mode, patience, min_delta)


@given(values, st.integers(0, 30))
def test_continues_exactly_from_its_state(history: list[float], cut: int) -> None:
    whole, first = Patience("max", 3), Patience("max", 3)
    for epoch, value in enumerate(history):
        whole.update(epoch, value)
    for epoch, value in enumerate(history[:cut]):
        first.update(epoch, value)
    second = Patience("max", 3)
    second.load_state_dict(first.state_dict())
    for epoch, value in list(enumerate(history))[cut:]:
        second.update(epoch, value)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_without_patience_it_never_ends(mode: str) -> None:
    watch = Patience(mode, None)
    for epoch in range(1, 100):
        watch.update(epoch, 1.0)
    assert not watch.exhausted
    assert watch.best_epoch == 1
