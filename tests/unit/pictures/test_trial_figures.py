"""The figures of a trial: what they show, and that no input breaks them."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.pictures import (
    confusion_matrix,
    curves,
    errors_per_class,
    iteration_curves,
    lr_range,
    metric_curves,
    most_confused,
)
from lab.pictures.drawing import plain_style
from lab.pictures.trial_figures import _Page
from lab.pictures.words import Word, Words
from lab.training.analysis import ConfusedPair, Example

HISTORY = {
    "train_loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.9],
    "train_accuracy": [0.2, 0.5, 0.9],
    "val_accuracy": [0.2, 0.4, 0.8],
    "lr": [0.1, 0.1, 0.1],
}


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plain_style():
        yield


def png(figure: object) -> bytes:
    image = io.BytesIO()
    figure.savefig(image)  # type: ignore[attr-defined]
    return image.getvalue()


def bars(axes: Axes) -> list[float]:
    (outline,) = axes.patches
    heights: list[float] = outline.get_data().values.tolist()  # type: ignore[attr-defined]
    return heights[::2]


PAIRS = [
    ConfusedPair(0, 1, 1200, 0.3, (Example(1, 0.99), Example(2, 0.5))),
    ConfusedPair(2, 0, 1, 0.001, (Example(3, 0.07),)),
]


def pictures(channels: int, height: int, width: int) -> dict[int, npt.NDArray[np.uint8]]:
    """Return images by index, each filled with one grey value: ten times its index."""
    return {index: np.full((channels, height, width), 10 * index, dtype=np.uint8) for index in (1, 2, 3)}


def words(place: Axes | Figure) -> list[Word]:
    """Return what is written in axes, or in a figure beside its axes."""
    artists = place.get_children()
    return [word for artist in artists if isinstance(artist, Words) for word in artist.words]


def tiles(figure: Figure) -> set[int]:
    (page,) = (artist for artist in figure.artists if isinstance(artist, _Page))
    colors = page.pixels[..., :3].reshape(-1, 3)
    return {int(color[0]) for color in np.unique(colors, axis=0)} - {255}


def test_curves_count_epochs_from_one_and_mark_the_best() -> None:
    figure = curves(HISTORY, best_epoch=2)
    loss, accuracy = figure.axes
    assert (loss.get_title(loc="left"), accuracy.get_title(loc="left")) == ("Loss", "Accuracy")
    for axes in (loss, accuracy):
        assert axes.get_legend_handles_labels()[1] == ["train", "val", "best: epoch 2"]
        assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    marked = [line.get_xydata().tolist() for line in loss.lines if len(line.get_xdata()) == 1]
    assert marked == [[[2, 1.0]], [[2, 1.2]]]
    assert png(figure).startswith(b"\x89PNG")


def test_curves_draw_the_test_split_when_it_is_there() -> None:
    figure = curves({**HISTORY, "test_accuracy": [0.1, 0.2, 0.3]})
    assert figure.axes[1].get_legend_handles_labels()[1] == ["train", "val", "test"]


@pytest.mark.parametrize(
    "history", [{}, {"train_loss": []}, {"train_loss": [math.nan]}, {"train_loss": [math.inf, 1.0]}]
)
def test_curves_of_a_trial_that_came_to_nothing(history: dict[str, list[float]]) -> None:
    assert png(curves(history, best_epoch=1))


def test_confusion_matrix_counts_true_by_predicted() -> None:
    figure = confusion_matrix([[8, 2], [0, 10]], ["cat", "dog"])
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert "accuracy 90.00%" in axes.get_title(loc="left")
    cells = {(word.x, word.y): word.text for word in words(axes)}
    assert cells == {(0, 0): "8", (1, 0): "2", (1, 1): "10"}  # (predicted, true)
    assert np.asarray(axes.collections[0].get_array()).tolist() == [[0.8, 0.2], [0.0, 1.0]]


def test_confusion_matrix_without_its_diagonal_shows_the_mistakes() -> None:
    figure = confusion_matrix([[8, 2], [0, 10]], ["cat", "dog"], diagonal=False)
    assert np.asarray(figure.axes[0].collections[0].get_array()).tolist() == [[0.0, 0.2], [0.0, 0.0]]
    assert [word.text for word in words(figure.axes[0])] == ["2"]
    assert "accuracy 90.00%" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize(("classes", "numbered"), [(20, True), (21, False)])
def test_confusion_matrix_numbers_its_cells_while_they_can_be_read(classes: int, numbered: bool) -> None:
    figure = confusion_matrix(np.eye(classes, dtype=int) * 7, [f"class {i}" for i in range(classes)])
    assert len(words(figure.axes[0])) == (classes if numbered else 0)


def test_confusion_matrix_of_100_classes_and_of_nothing() -> None:
    assert png(
        confusion_matrix(np.zeros((100, 100), dtype=int), [f"a rather long name {i}" for i in range(100)])
    )
    assert png(confusion_matrix(np.zeros((2, 2), dtype=int), ["a", "b"], diagonal=False))


@pytest.mark.parametrize("figure", [confusion_matrix, errors_per_class])
def test_a_matrix_must_fit_its_classes(figure: Callable[..., Figure]) -> None:
    with pytest.raises(ValueError, match=r"must be \[C, C\] for C=3 classes, but got \(2, 2\)"):
        figure([[1, 0], [0, 1]], ["a", "b", "c"])


def test_errors_per_class_are_counts_and_shares() -> None:
    figure = errors_per_class([[8, 2, 0], [0, 5, 0], [1, 3, 0]], ["cat", "dog", "eel"])
    number, share = figure.axes
    assert bars(number) == [2, 0, 4]
    assert bars(share) == pytest.approx([0.2, 0.0, 1.0])
    assert [word.text for word in words(number)] == ["2", "0", "4"]
    assert [word.text for word in words(share)] == ["20.0%", "0.0%", "100.0%"]
    assert [label.get_text() for label in share.get_xticklabels()] == ["cat", "dog", "eel"]
    assert "6 of 19 images" in number.get_title(loc="left")


@pytest.mark.parametrize(("classes", "numbered"), [(1, 1), (20, 20), (21, 0), (100, 0)])
def test_errors_per_class_are_numbered_while_it_can_be_read(classes: int, numbered: int) -> None:
    figure = errors_per_class(np.ones((classes, classes), dtype=int), [f"class {i}" for i in range(classes)])
    assert [len(words(axes)) for axes in figure.axes] == [numbered, numbered]
    assert len(bars(figure.axes[0])) == classes
    assert png(figure)


def test_errors_per_class_of_nothing() -> None:
    assert png(errors_per_class(np.zeros((2, 2), dtype=int), ["a", "b"]))


def test_most_confused_shows_names_counts_and_the_images_in_order() -> None:
    figure = most_confused(PAIRS, pictures(3, 8, 8), ["cat", "dog", "eel"])
    assert sorted(word.text for word in words(figure)) == sorted(
        [
            "Most confused · the most confidently misclassified images",
            *("cat", "→ dog", "1,200 images, 30.0% of its class", "99.0%", "50.0%"),
            *("eel", "→ cat", "1 image, 0.1% of its class", "7.0%"),
        ]
    )
    assert tiles(figure) == {10, 20, 30}
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 224, 224), (3, 300, 20), (1, 1, 500), (2, 9, 9), (4, 9, 9)])
def test_most_confused_takes_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    figure = most_confused(PAIRS, pictures(*shape), ["cat", "dog", "eel"])
    assert tiles(figure) == {10, 20, 30}


def test_iteration_curves_are_drawn_against_the_iteration() -> None:
    history = {20: {"step_loss": 1.0, "step_accuracy": 0.5}, 10: {"step_loss": 2.0, "step_accuracy": 0.25}}
    loss, accuracy = iteration_curves({**history, 30: {"step_loss": math.inf}}).axes
    assert loss.lines[0].get_xydata().tolist()[:2] == [[10, 2.0], [20, 1.0]]
    assert np.isnan(loss.lines[0].get_ydata()[2])
    assert accuracy.lines[0].get_ydata()[:2].tolist() == [0.25, 0.5]
    assert (loss.get_xlabel(), accuracy.get_xlabel()) == ("iteration", "iteration")


@pytest.mark.parametrize(
    ("lowest", "scale"), [(0.011, "linear"), (0.0099, "log"), (0.0, "linear"), (math.nan, "linear")]
)
def test_a_loss_over_more_than_two_decades_is_drawn_logarithmically(lowest: float, scale: str) -> None:
    figure = iteration_curves({1: {"step_loss": 1.0}, 2: {"step_loss": lowest}})
    assert [axes.get_yscale() for axes in figure.axes] == [scale, "linear"]
    assert png(figure)


def test_iteration_curves_of_nothing() -> None:
    assert png(iteration_curves({}))


@pytest.mark.parametrize("name", ["$a$b$", "$\\frac{", "a\nb\tc", "x" * 300, "", 'a,"b"/c', "%s {0}", "猫"])
def test_no_name_of_a_class_breaks_a_figure(name: str) -> None:
    classes = [name, "dog", "eel"]
    for figure in (
        confusion_matrix(np.eye(3, dtype=int), classes),
        errors_per_class(np.eye(3, dtype=int), classes),
        most_confused(PAIRS, pictures(1, 8, 8), classes),
    ):
        assert png(figure)


def test_long_names_keep_both_ends() -> None:
    figure = errors_per_class(np.eye(2, dtype=int), ["a rather long name 1", "a rather long name 2"])
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == [
        "a rath…ame 1",
        "a rath…ame 2",
    ]


@pytest.mark.parametrize(
    ("draw", "other"),
    [
        (lambda: curves(HISTORY, 2), lambda: curves({"val_loss": [1e6, 1e-6] * 40}, 70)),
        (lambda: curves({}), lambda: curves(HISTORY, 2)),
        (
            lambda: confusion_matrix([[8, 2], [0, 10]], ["cat", "dog"]),
            lambda: confusion_matrix([[1, 2222], [3, 0]], ["cat", "dog"], diagonal=False, title="Others"),
        ),
        (
            lambda: errors_per_class([[8, 2], [0, 10]], ["cat", "dog"]),
            lambda: errors_per_class([[1, 222], [3, 0]], ["cat", "dog"], title="Others"),
        ),
    ],
)
def test_a_figure_does_not_depend_on_those_drawn_before(
    draw: Callable[[], Figure], other: Callable[[], Figure]
) -> None:
    first = png(draw())
    drawn_between = png(other())
    assert png(draw()) == first != drawn_between


def test_figures_leave_no_pyplot_state() -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    before = pyplot.get_fignums() if pyplot else []
    curves(HISTORY)
    assert (pyplot.get_fignums() if pyplot else []) == before


@pytest.mark.parametrize(
    ("losses", "suggestion"),
    [([2.3, 2.2, 1.0, 9.0], 0.01), ([0.0, 0.0, 0.0, 0.0], None), ([math.nan, -1.0, math.inf, 2.0], 0.001)],
)
def test_a_range_test_by_rate(losses: list[float], suggestion: float | None) -> None:
    figure = lr_range([0.0001, 0.001, 0.01, 0.1], losses, losses, suggestion)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert len(axes.lines) == 2 + (suggestion is not None)
    figure.savefig(io.BytesIO(), format="png")
    assert "0.001" in [text.get_text() for text in axes.get_xticklabels()]


def test_epochs_and_errors_are_whole_numbers_however_few() -> None:
    for axes in curves({"train_loss": [2.0], "train_accuracy": [0.5]}, best_epoch=1).axes:
        low, high = axes.get_xlim()
        assert [place for place in axes.get_xticks() if low <= place <= high] == [1]
    axes = errors_per_class([[5, 0], [0, 5]], ["a", "b"]).axes[0]
    low, high = axes.get_ylim()
    assert [place for place in axes.get_yticks() if low <= place <= high] == [0]


def test_the_rates_of_a_short_range_test_can_be_read() -> None:
    figure = lr_range([0.0002, 0.0004, 0.0008], [1.0, 0.9, 0.8], [1.0, 0.9, 0.8], None)
    figure.draw_without_rendering()
    labels = figure.axes[0].xaxis.get_minorticklabels()
    assert {"0.0003", "0.0004", "0.0006"} <= {text.get_text() for text in labels}


@pytest.mark.parametrize(("count", "panels"), [(1, 1), (3, 3), (4, 6)])
def test_each_chosen_metric_has_a_panel(count: int, panels: int) -> None:
    names = [f"m{number}" for number in range(count)]
    history = {"val_m0": [0.1, math.nan, 0.3], "epoch_test_m0": [0.1, 0.2, 0.2]}
    figure = metric_curves(history, names, best_epoch=3)
    assert len(figure.axes) == panels
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == names
    assert [
        line.get_label() for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")
    ] == [*("val", "test", "best: epoch 3")]
    assert png(figure)
