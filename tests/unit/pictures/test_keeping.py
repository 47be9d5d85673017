"""Axes that are drawn once look as those that matplotlib draws each time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure

from lab.pictures.drawing import finish_axes, new_figure
from lab.pictures.keeping import keep_drawn
from lab.pictures.lettering import LetteringCanvas


def empty() -> Figure:
    figure = new_figure(4, 3)
    finish_axes(figure.add_axes((0.2, 0.2, 0.7, 0.7)), "a title", x="epoch", y="loss")
    return figure


def pixels(figure: Figure) -> npt.NDArray[np.int64]:
    return LetteringCanvas(figure).page().astype(np.int64)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axis]:
    """The x axes that matplotlib has drawn, once for each time."""
    axes: list[Axis] = []
    draw: Callable[..., None] = XAxis.draw

    def counted(axis: XAxis, renderer: object) -> None:
        if axis.get_visible():
            axes.append(axis)
        draw(axis, renderer)

    monkeypatch.setattr(XAxis, "draw", counted)
    return axes


def test_an_axis_is_drawn_once_for_the_same_limits(drawn: list[Axis]) -> None:
    figure, plain = empty(), empty()
    axes = figure.axes[0]
    keep_drawn(axes.xaxis)
    keep_drawn(axes.yaxis)
    for limits in ((0, 1), (0, 1), (2, 30), (2, 30)):
        axes.set_xlim(limits)
        plain.axes[0].set_xlim(limits)
        assert np.abs(pixels(figure) - pixels(plain)).max() <= 1  # colours are rounded twice
    assert len([axis for axis in drawn if axis is axes.xaxis]) == 2


def test_an_axis_without_ticks_may_be_empty() -> None:
    figure = empty()
    axes = figure.axes[0]
    axes.set(xticks=[], xlabel="")
    plain = pixels(figure)
    keep_drawn(axes.xaxis)
    assert (pixels(figure) == plain).all()
