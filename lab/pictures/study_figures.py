"""The figures on a study's run: the effect of each dimension, and accuracy against size and against time.

Draw them within `plain_style`, as `log_figure` does: it takes the names of variants literally.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lab.config import in_percent
from lab.pictures.drawing import BLUE, GREY, ORANGE, finish_axes, label, new_figure, number_log_axis

__all__ = ["effects_figure", "size_figure", "time_figure", "values_figure"]

_MOST_PANELS = 9
_MOST_VALUES = 20  # in one panel
_MOST_LABELLED = 12  # points that get a name if there is room
_LONGEST = 40  # characters of a name
_LETTER, _LINE = 5.5, 11  # approximate width of a letter and height of a line, in pixels


def effects_figure(table: pd.DataFrame, *, metric: str = "best_value") -> Figure:
    """Return the marginal means with their 95 % intervals (of two trials the values), a panel for each dimension.

    Args:
        table: from `report.effects`; a dimension with many values is limited to the best of them.
        metric: the metric that was averaged; accuracies are shown in percent.
    """
    names = list(table["dimension"].unique())[:_MOST_PANELS]
    columns = min(max(len(names), 1), 3)
    rows = -(-max(len(names), 1) // columns)
    figure = new_figure(4.2 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _effect_panel(axes, table[table["dimension"] == name].head(_MOST_VALUES), metric)
        finish_axes(axes, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if not names:
        _say_nothing(figure)
    figure.subplots_adjust(
        left=0.42 / columns + 0.02, right=0.985, bottom=0.5 / (3.4 * rows), top=0.92, wspace=0.6, hspace=0.35
    )
    return figure


def size_figure(frame: pd.DataFrame) -> Figure:
    """Return test accuracy against the number of parameters, with the Pareto front.

    Args:
        frame: from `report.leaderboard`; trials on the front are named first, then the best others, if there is room.
    """
    figure = new_figure(7.2, 4.6)
    shown = frame[_finite(frame["test_accuracy"]) & _finite(frame["params"])].astype({"params": "float64"})
    if shown.empty:
        return _say_nothing(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    number_log_axis(axes.xaxis, "{:,.0f}")
    _points(axes, "params", shown)
    smallest, largest = shown["params"].min(), shown["params"].max()
    if largest < 1.1 * smallest:  # a logarithmic axis finds no limits for a single size
        axes.set_xlim(smallest / 1.5, largest * 1.5)
    front = shown[shown["pareto"]].sort_values("params")
    axes.plot(front["params"], front["test_accuracy"], color=ORANGE, linewidth=1.2, drawstyle="steps-post")
    axes.plot(front["params"], front["test_accuracy"], "o", color=ORANGE, markersize=6, label="Pareto front")
    axes.legend(fontsize=8, frameon=False)
    finish_axes(axes, "Accuracy and size", x="parameters", y="test accuracy")
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.12, top=0.92)
    _name_points(axes, "params", pd.concat([front, shown[~shown["pareto"]].head(_MOST_LABELLED)]))
    return figure


def time_figure(frame: pd.DataFrame) -> Figure:
    """Return test accuracy against training time.

    Args:
        frame: from `report.leaderboard`; cells with repeats are drawn as means with their 95 % intervals, of two
            repeats with the two values.
    """
    figure = new_figure(7.2, 4.6)
    shown = frame[_finite(frame["test_accuracy"]) & _finite(frame["seconds"])]
    if shown.empty:
        return _say_nothing(figure)
    axes = figure.subplots()
    _points(axes, "seconds", shown)
    finish_axes(axes, "Accuracy and time", x="training time (s)", y="test accuracy")
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.12, top=0.92)
    _name_points(axes, "seconds", shown.head(_MOST_LABELLED))
    return figure


def values_figure(dimension: str, accuracy: pd.DataFrame, seconds: pd.DataFrame) -> Figure:
    """Return test accuracy (left) and training time (right) of each value of the only dimension that varies.

    Args:
        dimension: its name.
        accuracy: the means of `test_accuracy`, from `report.effects`.
        seconds: those of `seconds`.
    """
    figure = new_figure(9.6, 3.8)
    if not (_finite(accuracy["mean"]).any() and _finite(seconds["mean"]).any()):
        return _say_nothing(figure)
    left, right = figure.subplots(1, 2)
    slanted = _value_panel(left, _in_order(accuracy))
    _value_panel(right, _in_order(seconds))
    finish_axes(left, "Test accuracy", x=dimension)
    finish_axes(right, "Training time (s)", x=dimension)
    if in_percent("test_accuracy", accuracy["mean"]):
        left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_ylim(bottom=0)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.3 if slanted else 0.14, top=0.90, wspace=0.2)
    return figure


def _value_panel(axes: Axes, table: pd.DataFrame) -> bool:
    """Draw the mean of each value; return whether the names of the values are slanted."""
    places, labels = range(len(table)), _labels(table["value"])
    axes.errorbar(places, table["mean"], yerr=_reach(table), fmt="o-", color=BLUE, capsize=3, linewidth=1)
    for values in _pairs(table):
        axes.plot(places, values, ".", color=BLUE, alpha=0.5)
    slanted = sum(map(len, labels)) > 40
    axes.set_xticks(places, labels, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    return slanted


def _effect_panel(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    table = _in_order(table)
    places = np.arange(len(table))[::-1]
    axes.errorbar(table["mean"], places, xerr=_reach(table), fmt="o", color=BLUE, capsize=3, label="mean")
    for values in _pairs(table):
        axes.plot(values, places, ".", color=BLUE, alpha=0.5)
    axes.plot(table["best"], places, "|", color=ORANGE, markersize=9, label="best")
    axes.set_yticks(places, _labels(table["value"]))
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if in_percent(metric, table["mean"]):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` in numerical order if all values are numbers or parts of a range, and unchanged otherwise."""
    first = table["value"].astype("str").str.partition(" to ")[0]
    numbers = pd.to_numeric(first, errors="coerce")
    return table if numbers.isna().any() else table.loc[numbers.sort_values().index]


def _points(axes: Axes, x: str, frame: pd.DataFrame) -> None:
    values = frame["test_accuracy"]
    if "test_ci95_low" in frame:
        reach = _reach(frame, "test_accuracy", "test_")
        axes.errorbar(frame[x], values, yerr=reach, fmt="none", ecolor=BLUE, alpha=0.35, capsize=2)
        for pair in _pairs(frame, "test_"):
            axes.plot(frame[x], pair, ".", color=BLUE, alpha=0.5)
    axes.plot(frame[x], values, "o", color=BLUE, markersize=5)
    if in_percent("test_accuracy", values):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _reach(table: pd.DataFrame, mean: str = "mean", prefix: str = "") -> npt.NDArray[np.float64]:
    """Return how far the 95 % intervals reach below and above the means, [2, N]; NaN where there is none."""
    low, high = table[f"{prefix}ci95_low"], table[f"{prefix}ci95_high"]
    return np.stack([table[mean] - low, high - table[mean]]).astype("float64")


def _pairs(table: pd.DataFrame, prefix: str = "") -> list[pd.Series[float]]:
    """Return the two values of each mean of two, which has no interval; NaN for other means."""
    return [table[f"{prefix}{name}"].where(table[f"{prefix}n"] == 2) for name in ("worst", "best")]


def _name_points(axes: Axes, x: str, frame: pd.DataFrame) -> None:
    """Write names next to the points, on the side with more room; a name that would cover another is left out."""
    axes.autoscale_view()  # matplotlib would do that only when it draws
    edges = axes.transAxes.transform([(0, 0), (1, 1)])  # all positions here are in pixels
    placed: list[tuple[float, float, float]] = []  # left and right end, height
    for point, name in zip(frame[[x, "test_accuracy"]].to_numpy(float), _labels(frame["name"]), strict=True):
        across, height = axes.transData.transform(point)
        toward = -1 if across > edges[:, 0].mean() else 1
        ends = sorted((across, across + toward * _LETTER * (len(name) + 2)))
        if any(abs(height - h) < _LINE and ends[0] < r and left < ends[1] for left, r, h in placed):
            continue
        placed.append((ends[0], ends[1], height))
        axes.annotate(
            name,
            (point[0], point[1]),
            xytext=(toward * 6, 3),
            textcoords="offset points",
            ha="right" if toward < 0 else "left",
            fontsize=7,
            color=GREY,
        )


def _labels(values: pd.Series[Any]) -> list[str]:
    return ["–" if pd.isna(value) else label(value, _LONGEST) for value in values]


def _finite(values: pd.Series[Any]) -> pd.Series[bool]:
    return values.astype("float64").map(np.isfinite)


def _say_nothing(figure: Figure) -> Figure:
    figure.text(0.5, 0.5, "no finished trials", ha="center", va="center", color=GREY)
    return figure
