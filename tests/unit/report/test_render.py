from __future__ import annotations

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from lab.report import duration, render
from lab.report.render import formatted

FRAME = pd.DataFrame(
    {
        "rank": [1, 2],
        "name": ["gelu [red]", "relu"],
        "net": ["[red]", "blue"],
        "lr": ["0.001", "1e-2"],
        "best_value": [0.98765, math.nan],
        "test_accuracy": [0.9, None],
        "best_epoch": pd.array([3, None], dtype="Int64"),
        "params": pd.array([1234567, 10], dtype="Int64"),
        "seconds": [62.0, 1.25],
        "outcome": ["completed", "diverged"],
        "run_id": ["abc", "def"],
    }
)


def printed(**options: str) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render(FRAME, **options))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_table_for_people() -> None:
    text = printed(title="digits")
    first = next(line for line in text.splitlines() if "98.77%" in line).split()
    assert first == [
        "1",
        "[red]",
        "0.001",
        "98.77%",
        "90.00%",
        "3",
        "1,234,567",
        "1",
        "min",
        "02",
        "s",
        "completed",
    ]
    assert next(line for line in text.splitlines() if "1e-2" in line).split()[3:6] == ["–", "–", "–"]
    assert "abc" not in text
    assert "digits" in text


def test_an_accuracy_in_percent_is_shown_as_it_is() -> None:
    assert [formatted("val_accuracy", value) for value in (0.931, 93.1)] == ["93.10%", "93.1"]


def test_without_varied_parameters_the_name_tells_trials_apart() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(render(FRAME.drop(columns=["net", "lr"])))
    assert "gelu [red]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_loss_is_no_percentage() -> None:
    assert "0.9877" in printed(monitor="val_loss")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.012046216586337108", "0.01205"),
        ("1.3705537379540e-05", "1.371e-05"),
        ("0.003", "0.003"),
        ("3.17.2", "3.17.2"),
        ("0.00001x", "0.00001x"),
    ],
)
def test_a_chosen_number_is_shown_with_few_digits(value: str, text: str) -> None:
    assert formatted("lr", value) == text


@pytest.mark.parametrize("width", [30, 50, 60, 70, 80, 120])
def test_what_says_least_is_left_out_where_it_is_narrow(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    frame = FRAME.assign(epochs=pd.array([5, 5], dtype="Int64"))
    console.print(render(frame))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert ("…" in text) == (width == 30)
    assert "98.77%" in text or width == 30
    assert ("completed" in text) == (width >= 60)
    assert ("1 min 02 s" in text) == (width >= 80)


def test_the_frame_says_what_its_values_are_of() -> None:
    frame = FRAME.copy()
    frame.attrs["monitor"] = "val_loss"
    console = Console(file=io.StringIO(), width=160)
    console.print(render(frame.head(1)))
    assert "0.9877" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "shown"), [(160, True), (40, False)])
def test_chosen_metrics_are_shown_where_there_is_room(width: int, shown: bool) -> None:
    frame = FRAME.copy()
    frame.insert(list(frame).index("test_accuracy") + 1, "test_auroc", 0.98765)
    frame.attrs["metric"] = "best_value"
    console = Console(file=io.StringIO(), width=width)
    console.print(render(frame))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("test_auroc" in text, "0.9877" in text) == (shown, shown)
