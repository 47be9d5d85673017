"""Running totals of an epoch: means, windows over iterations, and the worst batches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.training.sums import Sums


def sums_of(losses: list[float], sizes: list[int]) -> Sums:
    """Return the sums of steps in which the first half of the images was correct."""
    sums = Sums.of(len(losses), torch.device("cpu"))
    for loss, size in zip(losses, sizes, strict=True):
        labels = torch.zeros(size, dtype=torch.int64)
        logits = torch.zeros(size, 2)
        logits[: size // 2, 0], logits[size // 2 :, 1] = 1.0, 1.0
        sums.add(torch.tensor(loss), logits, labels)
    return sums


steps = st.lists(st.tuples(st.floats(0, 10, width=32), st.integers(1, 9)), min_size=1, max_size=20)


@given(steps, st.integers(1, 25))
def test_windows_are_the_epoch_cut_in_pieces(values: list[tuple[float, int]], length: int) -> None:
    losses, sizes = map(list, zip(*values, strict=True))
    sums = sums_of(losses, sizes)
    windows = sums.windows(length, len(losses))
    assert list(windows) == [*range(length, len(losses), length), len(losses)]
    images = [sum(sizes[max(0, (stop - 1) // length * length) : stop]) for stop in windows]
    assert sum(images) == sums.images
    whole = sums.metrics(len(losses))
    for step, mean in (("step_loss", "train_loss"), ("step_accuracy", "train_accuracy")):
        total = sum(window[step] * count for window, count in zip(windows.values(), images, strict=True))
        assert total / sums.images == pytest.approx(whole[mean], rel=1e-4, abs=1e-6)


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_worst_batches_have_the_highest_loss(losses: list[float], fraction: float) -> None:
    worst = sums_of(losses, [2] * len(losses)).worst(fraction)
    assert worst == sorted(set(worst))
    assert len(worst) == max(1, round(fraction * len(losses)))
    rest = [loss for number, loss in enumerate(losses) if number not in worst]
    assert not rest or min(losses[number] for number in worst) >= max(rest)


def test_steps_before_the_first_that_is_not_finite() -> None:
    assert sums_of([1.0, 2.0, math.nan, math.inf], [1, 1, 1, 1]).finite_steps() == 2
    assert sums_of([1.0, 2.0], [1, 1]).finite_steps() == 2
    assert list(sums_of([1.0, 2.0, math.nan], [1, 1, 1]).windows(2, 2)) == [2]
