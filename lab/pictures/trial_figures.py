"""The figures on a trial's run: its curves, its confusion matrix, and its most frequent mistakes.

Draw them within `plain_style`, as `log_figure` does: it takes the names of classes literally.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import Affine2D
from PIL import Image

from lab.pictures.drawing import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    TITLE_AT,
    finish_axes,
    framed,
    label,
    new_figure,
    number_log_axis,
)
from lab.pictures.keeping import keep_drawn
from lab.pictures.legend import keep_legend
from lab.pictures.ticks import draw_ticks_at_once
from lab.pictures.words import Word, Words
from lab.wording import counted

if TYPE_CHECKING:
    from lab.training.analysis import ConfusedPair

__all__ = [
    "confusion_matrix",
    "curves",
    "errors_per_class",
    "iteration_curves",
    "lr_range",
    "metric_curves",
    "most_confused",
]

_COLORS = {"train": BLUE, "val": ORANGE, "test": GREEN}
_MOST_NUMBERED = 20  # with more classes the counts are left out
_MOST_LABELLED = 40  # with more classes only some are named
_LINEAR_DECADES = 2  # a loss that spans more gets a logarithmic axis

# sizes in the figure of the most confused pairs, in pixels
_TILE = 88  # side of an image
_COLUMN, _ROW = 104, 116  # from one image to the next
_NAMES = 230  # width to the left of the images
_HEAD = 34  # height above them


def curves(history: Mapping[str, Sequence[float]], best_epoch: int | None = None) -> Figure:
    """Return the loss (left) and the accuracy (right) of each split, by epoch.

    Args:
        history: `train_loss`, `val_loss`, `train_accuracy`, … with a value for each epoch. Splits without values are
            left out; NaN and infinities leave gaps.
        best_epoch: the epoch, counted from 1, whose weights were kept; marked in both.
    """
    figure = framed(_by_epoch)
    for metric, axes in zip(("loss", "accuracy"), figure.axes, strict=True):
        for split, color in _COLORS.items():
            _curve(axes, history.get(f"{split}_{metric}", ()), split, color, best_epoch)
        _mark_best(axes, best_epoch)
    return figure


def metric_curves(
    history: Mapping[str, Sequence[float]], metrics: Sequence[str], best_epoch: int | None = None
) -> Figure:
    """Return each of the chosen metrics on the validation and the test images, by epoch, in a panel of its own.

    Args:
        history: `val_auroc`, `epoch_test_auroc`, … with a value for each epoch; NaN and infinities leave gaps.
        metrics: their names, such as `auroc`.
        best_epoch: the epoch, counted from 1, whose weights were kept; marked in all.
    """
    columns = min(len(metrics), 3)
    rows = -(-len(metrics) // columns)
    figure = new_figure(4.8 * columns, 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        for split, name in (("val", "val"), ("test", "epoch_test")):
            _curve(axes, history.get(f"{name}_{metric}", ()), split, _COLORS[split], best_epoch)
        _mark_best(axes, best_epoch)
        _finish(axes, metric, x="epoch")
        _add_legend(axes)
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    height = 3.4 * rows
    figure.subplots_adjust(
        left=0.15 / columns, right=0.985, bottom=0.5 / height, top=1 - 0.34 / height, wspace=0.25, hspace=0.4
    )
    return figure


def iteration_curves(history: Mapping[int, Mapping[str, float]]) -> Figure:
    """Return the loss (left) and the accuracy (right) of the training batches, by iteration.

    Args:
        history: `step_loss` and `step_accuracy` by iteration; NaN and infinities leave gaps.
    """
    figure = _loss_and_accuracy("iteration")
    iterations = sorted(history)
    for metric, axes in zip(("loss", "accuracy"), figure.axes, strict=True):
        line = _with_gaps([history[at].get(f"step_{metric}", math.nan) for at in iterations])
        axes.plot(iterations, line, color=_COLORS["train"], linewidth=1.0)
        if metric == "loss" and _spans_decades(line):
            axes.set_yscale("log")
            number_log_axis(axes.yaxis, "{:g}")
    return figure


def lr_range(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> Figure:
    """Return the loss of a learning-rate range test by rate.

    Args:
        rates: learning rate of each step.
        losses: of each step.
        smoothed: the same, smoothed.
        suggestion: the rate to mark, None for none.
    """
    figure = new_figure(7.2, 4.0)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.76))
    axes.plot(rates, _with_gaps(losses), color=GREY, linewidth=0.8, alpha=0.5, label="loss")
    axes.plot(rates, _with_gaps(smoothed), color=BLUE, linewidth=1.6, label="smoothed")
    axes.set_xscale("log")
    number_log_axis(axes.xaxis, "{:g}")
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linewidth=1.2, label=f"steepest descent: {suggestion:.2g}")
    top = max((value for value in smoothed if math.isfinite(value)), default=0.0)
    if top > 0:  # single losses of the divergence would flatten all that matters
        axes.set_ylim(bottom=min(0.0, *smoothed), top=1.05 * min(top, 2 * smoothed[0]) or None)
    axes.legend(fontsize=8, frameon=False)
    finish_axes(axes, "Learning-rate range test", x="learning rate", y="training loss")
    return figure


def confusion_matrix(
    matrix: npt.ArrayLike, classes: Sequence[str], *, diagonal: bool = True, title: str = "Confusion matrix"
) -> Figure:
    """Return how the images of each class (rows) were classified (columns).

    Args:
        matrix: counts [C, C], true class by predicted class.
        classes: the names of the C classes.
        diagonal: whether to show the correct predictions too; without them the mistakes stand out.
        title: shown above the matrix.

    Raises:
        ValueError: `matrix` is not [C, C].
    """
    counts = _counts(matrix, classes)  # [C, C]
    numbered = len(classes) <= _MOST_NUMBERED
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of each true class; [C, C]
    hidden = np.eye(len(classes), dtype=bool) & (not diagonal)  # [C, C]
    shown = np.where(hidden, 0.0, shares)
    figure = framed(_matrix, tuple(classes)) if numbered else _matrix(classes)
    axes = figure.axes[0]
    top = 1.0 if diagonal else max(float(shown.max()), 1e-9)
    edges = np.arange(len(classes) + 1) - 0.5
    # imshow takes 5 ms to resample even a small matrix
    cells = axes.pcolormesh(edges, edges, shown, cmap="Blues", vmin=0.0, vmax=top)
    axes.set(xlim=edges[[0, -1]], ylim=edges[[-1, 0]], aspect="equal")
    if numbered:
        _number_cells(axes, np.where(hidden, 0, counts), shown / top)
    else:
        bar = figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.03, format=PercentFormatter(1.0))
        bar.ax.tick_params(labelsize=8)
        bar.set_label("share of the true class", fontsize=8)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{title} · accuracy {accuracy:.2%}", fontsize=10, loc="left", y=TITLE_AT)
    return figure


def errors_per_class(
    matrix: npt.ArrayLike, classes: Sequence[str], *, title: str = "Errors per class"
) -> Figure:
    """Return the number (top) and the share (bottom) of misclassified images of each class.

    Args:
        matrix: counts [C, C], true class by predicted class.
        classes: the names of the C classes, from left to right.
        title: shown above the bars.

    Raises:
        ValueError: `matrix` is not [C, C].
    """
    counts = _counts(matrix, classes)  # [C, C]
    images = counts.sum(axis=1)  # [C]
    errors = images - np.diagonal(counts)  # [C]
    figure = framed(_two_bar_charts, tuple(classes))
    number, share = figure.axes
    _bars(number, errors, [f"{n}" for n in errors])
    shares = errors / np.maximum(images, 1)  # [C]
    _bars(share, shares, [f"{part:.1%}" for part in shares])
    summary = f"{errors.sum():,} of {counted(int(images.sum()), 'image')}"
    number.set_title(f"{title} · {summary}", fontsize=10, loc="left", y=TITLE_AT)
    return figure


def most_confused(
    pairs: Sequence[ConfusedPair], images: Mapping[int, npt.NDArray[np.uint8]], classes: Sequence[str]
) -> Figure:
    """Return a row for each pair of classes: their names, the number of mistakes, and examples with confidences.

    Args:
        pairs: the rows, from top to bottom.
        images: the pairs' examples by their index, uint8 [C, H, W] with one channel (grey) or three.
        classes: names by label.
    """
    columns = max((len(pair.examples) for pair in pairs), default=0)
    width, height = _NAMES + max(columns, 3) * _COLUMN, _HEAD + len(pairs) * _ROW
    figure = new_figure(width / DPI, height / DPI)
    page = np.full((height, width, 4), 255, dtype=np.uint8)  # opaque white
    title = [Word(12, 22, "Most confused · the most confidently misclassified images")]
    names, notes, captions = [], [], []
    for row, pair in enumerate(pairs):
        top = _HEAD + row * _ROW
        true, predicted = label(classes[pair.true], 22), label(classes[pair.predicted], 20)
        names += [Word(12, top + 28, true), Word(12, top + 48, f"→ {predicted}")]
        share = f"{counted(pair.count, 'image')}, {pair.share:.1%} of its class"
        notes.append(Word(12, top + 68, share, GREY))
        for column, example in enumerate(pair.examples):
            left = _NAMES + column * _COLUMN
            _paste(page, left, top, images[example.index])
            place = left + _TILE / 2, top + _TILE + 14
            captions.append(Word(*place, f"{example.confidence:.1%}", GREY))
    # one image for the whole page: an axes for each of 40 images takes four times as long
    figure.add_artist(_Page(page))
    figure.patch.set_visible(False)
    _write(figure, title, size=10)
    _write(figure, names, size=9, weight="bold")
    _write(figure, notes, size=8)
    _write(figure, captions, size=8, ha="center")
    return figure


class _Page(Artist):
    """The pixels of a whole figure, RGBA [H, W, 4], drawn as they are: matplotlib would resample them."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        super().__init__()
        self.pixels = pixels

    def draw(self, renderer: Any) -> None:
        renderer.draw_image(renderer.new_gc(), 0, 0, self.pixels[::-1])


def _loss_and_accuracy(x: str) -> Figure:
    figure = new_figure(9.6, 3.8)
    loss, accuracy = figure.subplots(1, 2)
    _finish(loss, "Loss", x=x)
    _finish(accuracy, "Accuracy", x=x)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.14, top=0.90, wspace=0.2)
    return figure


def _by_epoch() -> Figure:
    figure = _loss_and_accuracy("epoch")
    for axes in figure.axes:
        keep_drawn(axes.xaxis)
        draw_ticks_at_once(axes.yaxis)
        keep_legend(axes)
    return figure


def _matrix(classes: Sequence[str]) -> Figure:
    numbered = len(classes) <= _MOST_NUMBERED
    cells = 0.42 * max(len(classes), 6) if numbered else 6.0  # inches
    bar_width = 0.0 if numbered else 0.9
    margin = 1.1 if _slanted(classes) else 0.65  # for the class names
    # 1.6: the bar and its labels
    width, height = cells + margin + 0.2 + 1.6 * bar_width, cells + margin + 0.4
    figure = new_figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, (cells + bar_width) / width, cells / height))
    _name_classes(axes, classes)
    keep_drawn(axes.xaxis)
    keep_drawn(axes.yaxis)
    return figure


def _counts(matrix: npt.ArrayLike, classes: Sequence[str]) -> npt.NDArray[Any]:
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"matrix must be [C, C] for C={len(classes)} classes, but got {counts.shape}")
    return counts


def _curve(axes: Axes, values: Sequence[float], split: str, color: str, best_epoch: int | None) -> None:
    if not len(values):
        return
    line = _with_gaps(values)  # [epochs]
    epochs = np.arange(1, len(line) + 1)
    axes.plot(epochs, line, color=color, linewidth=1.6, label=split, marker="." if len(line) < 30 else "")
    if best_epoch is not None and 1 <= best_epoch <= len(line):
        axes.plot(
            [best_epoch], [line[best_epoch - 1]], "o", color=color, markersize=6, markeredgecolor="white"
        )


def _with_gaps(values: Sequence[float]) -> npt.NDArray[np.float64]:
    line = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(line), line, np.nan)


def _spans_decades(line: npt.NDArray[np.float64]) -> bool:
    values = line[~np.isnan(line)]
    return len(values) > 0 and values.min() > 0 and values.max() / values.min() > 10**_LINEAR_DECADES


def _mark_best(axes: Axes, best_epoch: int | None) -> None:
    if best_epoch is not None:
        axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle="--", label=f"best: epoch {best_epoch}")


def _finish(axes: Axes, title: str, *, x: str) -> None:
    finish_axes(axes, title, x=x)
    axes.xaxis.set_major_locator(_whole_numbers())


def _whole_numbers(most: int = 10) -> MaxNLocator:
    """Return what places ticks at whole numbers only, even if the axis has just one."""
    return MaxNLocator(most, integer=True, min_n_ticks=1)


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def _number_cells(axes: Axes, counts: npt.NDArray[Any], depth: npt.NDArray[np.floating]) -> None:
    size = 9 if counts.max(initial=0) < 1000 else 7
    words = [
        Word(column, row, f"{counts[row, column]:.0f}", "white" if depth[row, column] > 0.55 else "#222222")
        for row, column in np.argwhere(counts > 0)
    ]
    axes.add_artist(Words(words, axes.transData, size=size, ha="center", va="center"))


def _two_bar_charts(classes: Sequence[str]) -> Figure:
    inches = min(max(0.5 * len(classes), 6.0), 12.0)
    figure = new_figure(inches, 4.8)
    number, share = figure.subplots(2, 1)
    for axes, title in ((number, "errors"), (share, "share of the class")):
        axes.yaxis.set_major_locator(_whole_numbers(4) if axes is number else MaxNLocator(4))
        axes.set_ylabel(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, axis="y")
        axes.spines[["top", "right"]].set_visible(False)
    share.yaxis.set_major_formatter(PercentFormatter(1.0))
    number.set_xticks([])
    places, names = _tick_names(classes)
    share.set_xticks(places, names, **_tick_style(classes))
    bottom = 0.19 if _slanted(classes) else 0.08
    figure.subplots_adjust(left=0.72 / inches, right=1 - 0.1 / inches, bottom=bottom, top=0.93, hspace=0.14)
    keep_drawn(share.xaxis)
    draw_ticks_at_once(number.yaxis)
    draw_ticks_at_once(share.yaxis)
    return figure


def _bars(axes: Axes, values: npt.NDArray[Any], numbers: Sequence[str]) -> None:
    places = np.arange(len(values))
    # one outline that drops to 0 between the bars: 100 rectangles nearly double the drawing time
    outline = np.insert(values.astype(float), np.arange(1, len(values)), 0.0)
    edges = np.stack([places - 0.375, places + 0.375], axis=1).ravel()
    axes.stairs(outline, edges, fill=True, color=_COLORS["train"])
    if len(values) <= _MOST_NUMBERED:
        words = [
            Word(float(at), float(value), number)
            for at, value, number in zip(places, values, numbers, strict=True)
        ]
        above = axes.transData + Affine2D().translate(0, 2 * DPI / 72)  # by 2 points
        axes.add_artist(Words(words, above, size=7, ha="center", va="bottom"))
    axes.set(xlim=(-0.7, len(values) - 0.3), ylim=(0, 1.18 * max(float(np.max(values, initial=0)), 0.01)))


def _write(figure: Figure, words: Sequence[Word], **style: Any) -> None:
    """Write words whose places are pixels from the left and from the top edge."""
    height = figure.get_size_inches()[1] * DPI
    figure.add_artist(Words(words, Affine2D().scale(1, -1).translate(0, height), **style))


def _paste(page: npt.NDArray[np.uint8], left: int, top: int, image: npt.NDArray[np.uint8]) -> None:
    """Put an image [C, H, W] into the middle of a tile of a page, RGBA [H, W, 4]."""
    _, height, width = image.shape
    # small images keep sharp pixels
    scale = _TILE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    filtered = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    shown = image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0]
    small = np.asarray(Image.fromarray(np.ascontiguousarray(shown)).resize(size, filtered))
    top, left = top + (_TILE - size[1]) // 2, left + (_TILE - size[0]) // 2
    page[top : top + size[1], left : left + size[0], :3] = (
        small if small.ndim == 3 else small[..., np.newaxis]
    )


def _slanted(classes: Sequence[str]) -> bool:
    """Return whether the names are too long to be written horizontally."""
    return max((len(str(name)) for name in classes), default=0) > 3


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    places, names = _tick_names(classes)
    style = _tick_style(classes)
    axes.set_xticks(places, names, **style)
    axes.set_yticks(places, names, fontsize=style["fontsize"])
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)


def _tick_names(classes: Sequence[str]) -> tuple[list[int], list[str]]:
    every = max(1, -(-len(classes) // _MOST_LABELLED))
    places = list(range(0, len(classes), every))
    return places, [label(classes[at], 12) for at in places]


def _tick_style(classes: Sequence[str]) -> dict[str, Any]:
    slanted = _slanted(classes)
    return {
        "fontsize": 8 if len(classes) <= _MOST_NUMBERED else 6,
        "rotation": 45 if slanted else 0,
        "ha": "right" if slanted else "center",
        "rotation_mode": "anchor",
    }
