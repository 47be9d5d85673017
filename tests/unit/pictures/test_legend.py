"""Legends that are drawn once look as those that matplotlib draws each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from lab.pictures.drawing import new_figure
from lab.pictures.legend import keep_legend
from lab.pictures.lettering import LetteringCanvas

CURVES = ([0.0, 0.1, 0.0], [0.0, 0.1, 1.0], [1.0, 1.0, 1.0])


def pixels(figure: Figure) -> npt.NDArray[np.int64]:
    return LetteringCanvas(figure).page().astype(np.int64)


def plot(axes: Axes, curve: list[float]) -> None:
    for line in list(axes.lines):
        line.remove()
    axes.set(xlim=(0, 2), ylim=(0, 1))
    axes.plot(curve, label="train", color="blue")
    axes.plot([0.5, 0.5, 0.5], color="red")  # without a label


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> list[Legend]:
    """The legends that were made."""
    made: list[Legend] = []
    make = Legend.__init__

    def noted(legend: Legend, *args: object, **options: object) -> None:
        made.append(legend)
        make(legend, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Legend, "__init__", noted)
    return made


def test_a_legend_is_drawn_once_and_goes_where_there_is_room(laid_out: list[Legend]) -> None:
    figure, plain = new_figure(3, 2), new_figure(3, 2)
    kept, drawn = figure.subplots(), plain.subplots()
    keep_legend(kept)
    for curve in CURVES:
        for axes in (kept, drawn):
            plot(axes, curve)
        drawn.legend(fontsize=8, frameon=False)
        # it begins at a whole pixel
        shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        ours, theirs = pixels(figure), pixels(plain)
        assert min(np.abs(np.roll(ours, shift, (0, 1)) - theirs).max() for shift in shifts) <= 1
    assert len(laid_out) == 1 + len(CURVES)


@pytest.mark.parametrize("style", [{"color": "black"}, {"marker": "o"}, {"label": "another"}])
def test_another_line_has_another_legend(style: dict[str, str], laid_out: list[Legend]) -> None:
    axes = new_figure(3, 2).subplots()
    keep_legend(axes)
    for look in ({}, style):
        plot(axes, CURVES[0])
        axes.lines[0].set(**look)
        pixels(axes.figure)  # type: ignore[arg-type]
    assert len(laid_out) == 2


def test_without_labels_there_is_none(laid_out: list[Legend]) -> None:
    axes = new_figure(3, 2).subplots()
    keep_legend(axes)
    axes.plot([1, 2])
    pixels(axes.figure)  # type: ignore[arg-type]
    assert not laid_out
