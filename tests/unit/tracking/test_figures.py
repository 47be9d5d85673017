from __future__ import annotations

import io
import math
import sys

import numpy as np
import pytest

from lab.tracking.figures import confusion_matrix, curves

HISTORY = {
    "train_loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.9],
    "train_accuracy": [0.2, 0.5, 0.9],
    "val_accuracy": [0.2, 0.4, 0.8],
    "lr": [0.1, 0.1, 0.1],
}


def png(figure: object) -> bytes:
    image = io.BytesIO()
    figure.savefig(image)  # type: ignore[attr-defined]
    return image.getvalue()


def test_curves_count_epochs_from_one_and_mark_the_best() -> None:
    figure = curves(HISTORY, best_epoch=2)
    loss, accuracy = figure.axes
    assert (loss.get_title(loc="left"), accuracy.get_title(loc="left")) == ("Loss", "Accuracy")
    for axes in (loss, accuracy):
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "train",
            "val",
            "best: epoch 2",
        ]
        assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    marked = [line.get_xydata().tolist() for line in loss.lines if len(line.get_xdata()) == 1]
    assert marked == [[[2, 1.0]], [[2, 1.2]]]
    assert png(figure).startswith(b"\x89PNG")


def test_curves_draw_the_test_split_when_it_is_there() -> None:
    figure = curves({**HISTORY, "test_accuracy": [0.1, 0.2, 0.3]})
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["train", "val", "test"]


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
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "2", (1, 1): "10"}  # (predicted, true)
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.8, 0.2], [0.0, 1.0]]


def test_confusion_matrix_without_its_diagonal_shows_the_mistakes() -> None:
    figure = confusion_matrix([[8, 2], [0, 10]], ["cat", "dog"], diagonal=False)
    assert np.asarray(figure.axes[0].images[0].get_array()).tolist() == [[0.0, 0.2], [0.0, 0.0]]


@pytest.mark.parametrize(("classes", "numbered"), [(20, True), (21, False)])
def test_confusion_matrix_numbers_its_cells_while_they_can_be_read(classes: int, numbered: bool) -> None:
    figure = confusion_matrix(np.eye(classes, dtype=int) * 7, [f"class {i}" for i in range(classes)])
    assert len(figure.axes[0].texts) == (classes if numbered else 0)


def test_confusion_matrix_of_100_classes_and_of_nothing() -> None:
    assert png(
        confusion_matrix(np.zeros((100, 100), dtype=int), [f"a rather long name {i}" for i in range(100)])
    )
    assert png(confusion_matrix(np.zeros((2, 2), dtype=int), ["a", "b"], diagonal=False))


def test_confusion_matrix_must_fit_its_classes() -> None:
    with pytest.raises(ValueError, match=r"must be \[C, C\] for C=3 classes, but got \(2, 2\)"):
        confusion_matrix([[1, 0], [0, 1]], ["a", "b", "c"])


def test_figures_leave_no_pyplot_state() -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    before = pyplot.get_fignums() if pyplot else []
    curves(HISTORY)
    assert (pyplot.get_fignums() if pyplot else []) == before
