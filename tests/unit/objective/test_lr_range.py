"""A range test in a run of its own: its curve, its figure, and its end."""

from __future__ import annotations

from typing import Any

import pytest

from lab.config import TrialConfig
from lab.errors import ConfigError
from lab.objective import LrRange, find_lr
from lab.tracking import MemoryTracker, RunStatus
from lab.tracking.tags import Tag
from lab.training import RatePoint

TINY: dict[str, Any] = {"dataset": "synthetic", "image_size": 8, "depth": 1, "width": 4, "threads": 1}


def test_the_curve_is_logged() -> None:
    tracker = MemoryTracker()
    runs: list[Any] = []
    steps: list[int] = []
    curve = find_lr(
        TrialConfig(**TINY),
        tracker,
        LrRange(1e-4, 0.1, 20),
        on_start=runs.append,
        on_step=lambda point: steps.append(point.step),
    )
    run_id = runs[0].run_id
    assert steps == list(range(1, 21))
    assert list(tracker.history(run_id, "loss").values()) == [point.loss for point in curve.points]
    assert tracker.history(run_id, "lr")[20] == pytest.approx(0.1)
    assert len(tracker.history(run_id, "smoothed_loss")) == 20
    assert list(tracker.history(run_id, "suggested_lr").values()) == [curve.suggestion]
    assert tracker.tags(run_id)[Tag.KIND] == "lr_range"
    assert tracker.status(run_id) is RunStatus.FINISHED
    assert "lr_range.png" in tracker.artifacts(run_id)


def test_what_there_is_when_it_is_stopped_is_kept() -> None:
    tracker = MemoryTracker()
    runs: list[Any] = []
    answers = iter([False] * 12 + [True])
    curve = find_lr(
        TrialConfig(**TINY), tracker, LrRange(), on_start=runs.append, should_stop=lambda: next(answers)
    )
    assert len(curve.points) == 12
    assert len(tracker.history(runs[0].run_id, "loss")) == 12
    assert tracker.status(runs[0].run_id) is RunStatus.KILLED


def test_a_test_that_was_ended_at_once_is_killed() -> None:
    tracker = MemoryTracker()
    runs: list[Any] = []

    def press(point: RatePoint) -> None:
        raise KeyboardInterrupt("pressed again")

    with pytest.raises(KeyboardInterrupt, match="pressed again"):
        find_lr(TrialConfig(**TINY), tracker, LrRange(), on_start=runs.append, on_step=press)
    assert tracker.status(runs[0].run_id) is RunStatus.KILLED
    assert Tag.ERROR not in tracker.tags(runs[0].run_id)


def test_an_error_fails_the_run() -> None:
    tracker = MemoryTracker()
    runs: list[Any] = []
    with pytest.raises(ConfigError, match="must be at most"):
        find_lr(TrialConfig(**TINY, freeze=9), tracker, LrRange(), on_start=runs.append)
    assert tracker.status(runs[0].run_id) is RunStatus.FAILED
    assert "must be at most" in tracker.tags(runs[0].run_id)[Tag.ERROR]
    assert b"ConfigError" in tracker.artifacts(runs[0].run_id)["traceback.txt"]
