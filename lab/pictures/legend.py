"""Draws a legend once for each set of its entries: matplotlib takes 4 ms to lay one out."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.offsetbox import OffsetBox
from matplotlib.transforms import Bbox

from lab.pictures.keeping import inked

__all__ = ["keep_legend"]

_MOST_LEGENDS = 32


class _Drawn(NamedTuple):
    """A legend's pixels, RGBA [H, W, 4], from `left`, `below` pixels of where its box is."""

    box: OffsetBox
    extent: Bbox
    pixels: npt.NDArray[np.uint8]
    left: float
    below: float


class _KeptLegend(Artist):
    def __init__(self, axes: Axes) -> None:
        super().__init__()
        self.set_zorder(Legend.zorder)
        self._parent = axes
        self._drawn: dict[Any, _Drawn] = {}

    def draw(self, renderer: Any) -> None:
        lines = [line for line in self._parent.lines if not str(line.get_label()).startswith("_")]
        if not lines:
            return
        key = tuple((line.get_label(), line.get_color(), line.get_marker()) for line in lines)
        if key not in self._drawn:
            if len(self._drawn) >= _MOST_LEGENDS:
                self._drawn.clear()
            names = [str(line.get_label()) for line in lines]
            self._drawn[key] = _draw(Legend(self._parent, lines, names, fontsize=8, frameon=False), renderer)
        drawn = self._drawn[key]
        left, below = drawn.box.get_offset(drawn.extent, renderer)  # where there is room
        gc = renderer.new_gc()
        renderer.draw_image(gc, round(left + drawn.left), round(below + drawn.below), drawn.pixels)
        gc.restore()


def keep_legend(axes: Axes) -> None:
    """Give `axes` a legend of its labelled lines, whatever these are when it is drawn, where there is room."""
    axes.add_artist(_KeptLegend(axes))


def _draw(legend: Legend, renderer: Any) -> _Drawn:
    page = type(renderer)(renderer.width, renderer.height, renderer.dpi)
    legend.draw(page)
    box = cast("OffsetBox", legend.get_children()[0])
    extent = box.get_bbox(page)
    x, y = box.get_offset(extent, page)
    pixels, left, below = inked(page)
    return _Drawn(box, extent, pixels, left - x, below - y)
