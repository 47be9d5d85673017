"""The figures of a study, drawn from tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lab.pictures import size_figure, time_figure, values_figure


def board(**columns: list[float]) -> pd.DataFrame:
    """Return a leaderboard of two trials."""
    about = {"name": ["a", "b"], "pareto": [False, True], "test_accuracy": [0.98, 0.99]}
    return pd.DataFrame({**about, **columns})


def means(*values: float) -> pd.DataFrame:
    """Return the effects of a dimension with the values 2, 1 and 0."""
    frame = pd.DataFrame({"value": ["2", "1", "0"][: len(values)], "mean": values, "n": 3})
    return frame.assign(**dict.fromkeys(("ci95_low", "ci95_high", "best", "worst"), frame["mean"]))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_trials_of_one_size_are_all_in_the_picture() -> None:
    axes = size_figure(board(params=[106_018, 106_018])).axes[0]
    low, high = axes.get_xlim()
    assert low < 106_018 < high
    assert high / low < 10


@pytest.mark.parametrize(
    ("params", "numbers"),
    [
        ([23_000, 78_000], ["30,000", "40,000", "60,000"]),
        ([4_100_000, 4_900_000], ["4,200,000", "4,500,000", "4,800,000"]),
        ([106_018, 106_018], ["100,000"]),
        ([900, 30_000_000], ["1,000", "10,000", "100,000", "1,000,000", "10,000,000"]),
    ],
)
def test_sizes_can_be_read_from_the_axis(params: list[float], numbers: list[str]) -> None:
    figure = size_figure(board(params=params))
    figure.draw_without_rendering()
    axis, (low, high) = figure.axes[0].xaxis, figure.axes[0].get_xlim()
    labels = axis.get_majorticklabels() + axis.get_minorticklabels()
    shown = {text.get_text() for text in labels if low <= text.get_position()[0] <= high} - {""}
    assert set(numbers) <= shown
    assert len(shown) < 12


def test_accuracy_is_drawn_against_time() -> None:
    (axes,) = time_figure(board(seconds=[3.0, 5.0])).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training time (s)", "test accuracy")
    assert axes.lines[0].get_xydata().tolist() == [[3.0, 0.98], [5.0, 0.99]]
    assert {"a", "b"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("draw", [time_figure, size_figure])
def test_names_lie_within_the_axes(draw: Callable[[pd.DataFrame], Figure]) -> None:
    frame = board(seconds=[3.0, 9.0], params=[10_000, 20_000_000])
    figure = draw(frame.assign(name=["the name of a fast cell", "the name of a slow cell"]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    edges = axes.get_window_extent()
    assert len(axes.texts) == 2
    for name in axes.texts:
        extent = name.get_window_extent()
        assert edges.x0 < extent.x0
        assert extent.x1 < edges.x1


def test_two_repeats_are_drawn_as_two_points_and_more_with_their_interval() -> None:
    low, high = [float("nan"), 0.97], [float("nan"), 0.995]
    spread = {
        "test_ci95_low": low,
        "test_ci95_high": high,
        "test_worst": [0.96, 0.96],
        "test_best": [0.999, 1.0],
    }
    frame = board(seconds=[3.0, 5.0], test_n=[2, 3]).assign(**spread)
    (axes,) = time_figure(frame).axes
    dots = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == "."]
    assert [found[~np.isnan(found).any(axis=1)].tolist() for found in dots] == [[[3.0, 0.96]], [[3.0, 0.999]]]
    (bars,) = [found for found in axes.collections if isinstance(found, LineCollection)]
    ends = [np.asarray(segment)[:, 1].tolist() for segment in bars.get_segments() if len(segment)]
    assert ends == [pytest.approx([0.97, 0.995])]


def test_values_of_one_dimension_are_drawn_in_their_order() -> None:
    accuracy, seconds = values_figure("freeze", means(0.85, 0.75, 0.65), means(6.5, 7.5, 8.5)).axes
    assert accuracy.get_xlabel() == seconds.get_xlabel() == "freeze"
    assert [text.get_text() for text in accuracy.get_xticklabels()] == ["0", "1", "2"]
    assert list(accuracy.lines[0].get_ydata()) == [0.65, 0.75, 0.85]  # type: ignore[arg-type]
    assert list(seconds.lines[0].get_ydata()) == [8.5, 7.5, 6.5]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "figure",
    [
        size_figure(board(params=[float("nan")] * 2)),
        time_figure(board(seconds=[float("inf")] * 2)),
        values_figure("freeze", means(), means()),
    ],
)
def test_without_a_finished_trial_it_says_so(figure: Figure) -> None:
    assert texts(figure) == ["no finished trials"]
