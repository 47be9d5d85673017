"""The pictures on a trial's run: its curves and its confusion matrix.

Drawn without pyplot, which keeps global state and is not safe in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

__all__ = ["confusion_matrix", "curves"]

_COLORS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
_GREY = "#666666"
_DPI = 100
_TITLE_AT = 1.02  # given, because matplotlib takes 10 ms to find a place for a title itself
_MOST_NUMBERED = 20  # classes up to which cells carry their counts
_MOST_LABELLED = 40  # classes up to which every one is named


def curves(history: Mapping[str, Sequence[float]], best_epoch: int | None = None) -> Figure:
    """Return the loss (left) and the accuracy (right) of each split, epoch by epoch.

    Args:
        history: `train_loss`, `val_loss`, `train_accuracy`, … with a value for each epoch; splits without
            any are left out, NaN and infinities leave gaps.
        best_epoch: the epoch, counted from 1, whose weights were kept; marked in both.
    """
    figure = _figure(9.6, 3.8)
    loss, accuracy = figure.subplots(1, 2)
    for axes, metric, title in ((loss, "loss", "Loss"), (accuracy, "accuracy", "Accuracy")):
        for split, color in _COLORS.items():
            _curve(axes, history.get(f"{split}_{metric}", ()), split, color, best_epoch)
        _mark_best(axes, best_epoch)
        _finish(axes, title)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.14, top=0.90, wspace=0.2)
    return figure


def confusion_matrix(
    matrix: npt.ArrayLike, classes: Sequence[str], *, diagonal: bool = True, title: str = "Confusion matrix"
) -> Figure:
    """Return how the images of each class (rows) were classified (columns).

    Args:
        matrix: counts [C, C], true class by predicted class.
        classes: their C names.
        diagonal: whether the right answers are coloured too; without them the mistakes stand out.
        title: above the matrix.

    Raises:
        ValueError: `matrix` is not [C, C].
    """
    counts = np.asarray(matrix)  # [C, C]
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"matrix must be [C, C] for C={len(classes)} classes, but got {counts.shape}")
    numbered = len(classes) <= _MOST_NUMBERED
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of each true class; [C, C]
    shown = shares if diagonal else np.where(np.eye(len(classes), dtype=bool), 0.0, shares)
    cells = 0.42 * max(len(classes), 6) if numbered else 6.0  # inches
    bar_width = 0.0 if numbered else 0.9
    margin = 1.1 if _slanted(classes) else 0.65  # for the names of the classes
    width, height = cells + margin + 0.2 + 1.6 * bar_width, cells + margin + 0.4  # the bar's labels beside it
    figure = _figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, (cells + bar_width) / width, cells / height))
    top = 1.0 if diagonal else max(float(shown.max()), 1e-9)
    image = axes.imshow(shown, cmap="Blues", vmin=0.0, vmax=top)
    if numbered:
        _number_cells(axes, counts, shown / top)
    else:
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, format=PercentFormatter(1.0))
        bar.ax.tick_params(labelsize=8)
        bar.set_label("share of the true class", fontsize=8)
    _name_classes(axes, classes)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{title} · accuracy {accuracy:.2%}", fontsize=10, loc="left", y=_TITLE_AT)
    return figure


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


def _curve(axes: Axes, values: Sequence[float], split: str, color: str, best_epoch: int | None) -> None:
    if not len(values):
        return
    line = np.asarray(values, dtype=float)  # [epochs]
    line = np.where(np.isfinite(line), line, np.nan)
    epochs = np.arange(1, len(line) + 1)
    axes.plot(epochs, line, color=color, linewidth=1.6, label=split, marker="." if len(line) < 30 else "")
    if best_epoch is not None and 1 <= best_epoch <= len(line):
        axes.plot(
            [best_epoch], [line[best_epoch - 1]], "o", color=color, markersize=6, markeredgecolor="white"
        )


def _mark_best(axes: Axes, best_epoch: int | None) -> None:
    if best_epoch is not None:
        axes.axvline(best_epoch, color=_GREY, linewidth=1, linestyle="--", label=f"best: epoch {best_epoch}")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left", y=_TITLE_AT)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _number_cells(axes: Axes, counts: npt.NDArray[Any], depth: npt.NDArray[np.floating]) -> None:
    size = 9 if counts.max(initial=0) < 1000 else 7
    for row, column in np.argwhere(counts > 0):
        color = "white" if depth[row, column] > 0.55 else "#222222"
        text = str(int(counts[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def _slanted(classes: Sequence[str]) -> bool:
    """Return whether the names are too long to stand side by side."""
    return max((len(str(name)) for name in classes), default=0) > 3


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    every = max(1, -(-len(classes) // _MOST_LABELLED))
    places = list(range(0, len(classes), every))
    names = [name if len(name) <= 12 else name[:11] + "…" for name in (str(classes[at]) for at in places)]
    size = 8 if len(classes) <= _MOST_NUMBERED else 6
    slanted = _slanted(classes)
    axes.set_xticks(
        places, names, fontsize=size, rotation=45 if slanted else 0, ha="right" if slanted else "center"
    )
    axes.set_yticks(places, names, fontsize=size)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
