"""Ticks that are drawn at once look as those that matplotlib draws one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lab.pictures.drawing import finish_axes, new_figure
from lab.pictures.lettering import LetteringCanvas
from lab.pictures.ticks import draw_ticks_at_once


def empty(label: str, *, percent: bool) -> Figure:
    figure = new_figure(4, 3)
    axes = figure.add_axes((0.3, 0.2, 0.6, 0.7))
    finish_axes(axes, "a title", x="epoch", y=label)
    if percent:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def pixels(figure: Figure) -> npt.NDArray[np.int64]:
    return LetteringCanvas(figure).page().astype(np.int64)


@pytest.mark.parametrize("percent", [True, False])
@pytest.mark.parametrize("label", ["", "errors"])
def test_they_are_where_and_what_matplotlib_draws(label: str, percent: bool) -> None:
    figure, plain = empty(label, percent=percent), empty(label, percent=percent)
    draw_ticks_at_once(figure.axes[0].yaxis)
    # numbers of other widths, below 0, with a power of ten or a sum above the axis
    for limits in ((0, 1), (0.013, 0.9), (-2, 3000), (0, 1e7), (1000.001, 1000.002), (5, -5)):
        figure.axes[0].set_ylim(limits)
        plain.axes[0].set_ylim(limits)
        assert np.abs(pixels(figure) - pixels(plain)).max() <= 1  # where lines of the grid cross


def test_an_axis_may_have_none() -> None:
    figure, plain = empty("", percent=False), empty("", percent=False)
    draw_ticks_at_once(figure.axes[0].yaxis)
    for axes in (figure.axes[0], plain.axes[0]):
        axes.set_yticks([])
    assert (pixels(figure) == pixels(plain)).all()
