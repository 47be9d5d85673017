"""The pictures on a study's run: what each factor did, and accuracy against size and against time.

Each is to be drawn in the style of `lab.pictures.drawing`, which takes the names of variants as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from lab.pictures.drawing import TITLE_AT, label, new_figure
from lab.report.effects import effects

__all__ = ["effects_figure", "size_figure", "time_figure"]

_BLUE, _ORANGE, _GREY = "#4c72b0", "#dd8452", "#666666"
_MOST_PANELS = 9
_MOST_VALUES = 20  # of one panel
_MOST_LABELLED = 12  # points that get a name where there is room
_LONGEST = 40  # letters of a name
_LETTER, _LINE = 5.5, 11  # pixels that a letter of a name and a line of text take, about


def effects_figure(table: pd.DataFrame, *, metric: str = "best_value") -> Figure:
    """Return the marginal means with their 95 % intervals, one panel for each dimension.

    Args:
        table: from `effects`; of a dimension with many values the best are shown.
        metric: what the means are of; accuracies are shown in percent.
    """
    names = list(table["dimension"].unique())[:_MOST_PANELS]
    columns = min(max(len(names), 1), 3)
    rows = -(-max(len(names), 1) // columns)
    figure = new_figure(4.2 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _effect_panel(axes, table[table["dimension"] == name].head(_MOST_VALUES), metric)
        _finish(axes, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if not names:
        _say_nothing(figure)
    figure.subplots_adjust(
        left=0.42 / columns + 0.02, right=0.985, bottom=0.5 / (3.4 * rows), top=0.92, wspace=0.6, hspace=0.35
    )
    return figure


def size_figure(frame: pd.DataFrame) -> Figure:
    """Return test accuracy against the number of parameters, with the front that no smaller net beats.

    Args:
        frame: from `leaderboard`; the trials on the front are named, and of the others those that have room.
    """
    figure = new_figure(7.2, 4.6)
    shown = frame[_finite(frame["test_accuracy"]) & _finite(frame["params"])].astype({"params": "float64"})
    if shown.empty:
        return _say_nothing(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _points(axes, "params", shown)
    smallest, largest = shown["params"].min(), shown["params"].max()
    if largest < 1.1 * smallest:  # all of one size: a logarithmic axis finds no limits of its own
        axes.set_xlim(smallest / 1.5, largest * 1.5)
    front = shown[shown["pareto"]].sort_values("params")
    axes.plot(front["params"], front["test_accuracy"], color=_ORANGE, linewidth=1.2, drawstyle="steps-post")
    axes.plot(front["params"], front["test_accuracy"], "o", color=_ORANGE, markersize=6, label="Pareto front")
    axes.legend(fontsize=8, frameon=False)
    _finish(axes, "Accuracy and size", x="parameters", y="test accuracy")
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.12, top=0.92)
    _name_points(axes, "params", pd.concat([front, shown[~shown["pareto"]].head(_MOST_LABELLED)]))
    return figure


def time_figure(trials: pd.DataFrame, frame: pd.DataFrame, varied: Sequence[str]) -> Figure:
    """Return test accuracy against training time; where one dimension varies, both against its values.

    Args:
        trials: the study's leaderboard with a row for each trial.
        frame: the same by cells: where these have repeats, means with their 95 % intervals are drawn.
        varied: the parameters that the study varies.
    """
    dimensions = [name for name in varied if name != "seed"]
    if not (_finite(frame["test_accuracy"]) & _finite(frame["seconds"])).any():
        return _say_nothing(new_figure(7.2, 4.6))
    if len(dimensions) == 1:
        return _by_value(trials, dimensions[0])
    return _by_time(frame)


def _by_time(frame: pd.DataFrame) -> Figure:
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    shown = frame[_finite(frame["test_accuracy"]) & _finite(frame["seconds"])]
    _points(axes, "seconds", shown)
    _finish(axes, "Accuracy and time", x="training time (s)", y="test accuracy")
    figure.subplots_adjust(left=0.1, right=0.97, bottom=0.12, top=0.92)
    _name_points(axes, "seconds", shown.head(_MOST_LABELLED))
    return figure


def _by_value(trials: pd.DataFrame, dimension: str) -> Figure:
    """Return accuracy (left) and training time (right) of each value of the only dimension."""
    figure = new_figure(9.6, 3.8)
    for axes, metric, title in zip(
        figure.subplots(1, 2),
        ("test_accuracy", "seconds"),
        ("Test accuracy", "Training time (s)"),
        strict=True,
    ):
        table = _in_order(effects(trials, [dimension], metric))
        places, labels = range(len(table)), _labels(table["value"])
        axes.errorbar(
            places, table["mean"], yerr=table["ci95"], fmt="o-", color=_BLUE, capsize=3, linewidth=1
        )
        slanted = sum(map(len, labels)) > 40
        axes.set_xticks(places, labels, rotation=45 if slanted else 0, ha="right" if slanted else "center")
        _finish(axes, title, x=dimension)
        if metric == "test_accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes.set_ylim(bottom=0)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.3 if slanted else 0.14, top=0.90, wspace=0.2)
    return figure


def _effect_panel(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    table = _in_order(table)
    places = np.arange(len(table))[::-1]
    axes.errorbar(table["mean"], places, xerr=table["ci95"], fmt="o", color=_BLUE, capsize=3, label="mean")
    axes.plot(table["best"], places, "|", color=_ORANGE, markersize=9, label="best")
    axes.set_yticks(places, _labels(table["value"]))
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if metric.endswith("accuracy"):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values in the order of a number line where they are numbers or parts of a range, or as they were."""
    first = table["value"].astype("str").str.partition(" to ")[0]
    numbers = pd.to_numeric(first, errors="coerce")
    return table if numbers.isna().any() else table.loc[numbers.sort_values().index]


def _points(axes: Axes, x: str, frame: pd.DataFrame) -> None:
    values, errors = frame["test_accuracy"], frame.get("test_ci95")
    if errors is not None:
        axes.errorbar(frame[x], values, yerr=errors, fmt="none", ecolor=_BLUE, alpha=0.35, capsize=2)
    axes.plot(frame[x], values, "o", color=_BLUE, markersize=5)
    low, high = axes.get_ylim()  # the interval of two repeats may well pass 0 and 1
    axes.set_ylim(max(low, -0.02), min(high, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _name_points(axes: Axes, x: str, frame: pd.DataFrame) -> None:
    """Write names beside the points, on the side where there is more room; one that would cover another is left out."""
    edges = axes.transAxes.transform([(0, 0), (1, 1)])  # in pixels, as all places here
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
            color=_GREY,
        )


def _labels(values: pd.Series[Any]) -> list[str]:
    return ["–" if pd.isna(value) else label(value, _LONGEST) for value in values]


def _finite(values: pd.Series[Any]) -> pd.Series[bool]:
    return values.astype("float64").map(np.isfinite)


def _say_nothing(figure: Figure) -> Figure:
    figure.text(0.5, 0.5, "no finished trials", ha="center", va="center", color=_GREY)
    return figure


def _finish(axes: Axes, title: str, *, x: str = "", y: str = "") -> None:
    axes.set_title(title, fontsize=11, loc="left", y=TITLE_AT)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
