from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from lab.errors import TrackingError
from lab.report import render_run_difference, run_difference
from lab.tracking import MemoryTracker


def run(tracker: MemoryTracker, params: dict[str, str], tags: dict[str, str], **metrics: float) -> str:
    opened = tracker.open_run(name="r", experiment=tracker.experiment("e"), tags=tags)
    opened.log_params(params)
    opened.log_metrics(metrics)
    return opened.run_id


def dataset(tracker: MemoryTracker, run_id: str, digest: str) -> None:
    about: dict[str, Any] = {"source": "s", "shape": (1, 8, 8), "classes": ("0",), "images": {"test": 1}}
    tracker.attach(run_id).log_dataset("digits", digest=digest, **about)


def test_what_differs_is_in_its_group() -> None:
    tracker = MemoryTracker()
    shared = {"lr": "0.1", "device": "cpu"}
    a = run(
        tracker,
        {**shared, "depth": "2", "code_digest": "12", "dataset": "digits", "net": "plain"},
        {"lab.torch": "2.11", "lab.host": "h", "mlflow.source.git.commit": "abc", "lab.outcome": "completed"},
        test_accuracy=0.9,
        val_loss=math.nan,
        mult_adds=1000.0,
    )
    b = run(
        tracker,
        {**shared, "depth": "3", "code_digest": "34", "dataset": "digits", "momentum": "0.9"},
        {"lab.torch": "2.12", "lab.host": "h", "mlflow.source.git.commit": "abc", "lab.outcome": "diverged"},
        test_accuracy=0.8,
        val_loss=math.nan,
        **{"system/cpu": 3.0},
    )
    dataset(tracker, a, "123")
    dataset(tracker, b, "456")
    found = run_difference(tracker, a, b)
    assert found.settings == {"depth": ("2", "3"), "momentum": ("–", "0.9"), "net": ("plain", "–")}
    assert found.same == 2
    assert found.code == {"code_digest": ("12", "34")}
    assert found.data == {"digest of digits": ("123", "456")}
    assert (found.versions, found.machine) == ({"torch": ("2.11", "2.12")}, {})
    assert found.outcome == {"outcome": ("completed", "diverged")}
    assert found.metrics == {"mult_adds": (1000.0, None), "test_accuracy": (0.9, 0.8)}
    assert not found.is_empty
    console = Console(file=io.StringIO(), width=120)
    console.print(render_run_difference(found))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["test_accuracy", "90.00%", "80.00%"] in lines
    assert ["Settings", "(2", "more", "are", "the", "same)"] in lines


def test_runs_that_differ_only_in_their_results() -> None:
    tracker = MemoryTracker()
    a, b = (run(tracker, {"lr": "0.1"}, {}, test_accuracy=value) for value in (0.1, 0.2))
    found = run_difference(tracker, a, b)
    assert found.is_empty
    assert found.metrics == {"test_accuracy": (0.1, 0.2)}


def test_a_run_that_is_not_there() -> None:
    tracker = MemoryTracker()
    with pytest.raises(TrackingError, match="0000"):
        run_difference(tracker, run(tracker, {}, {}), "0" * 32)
