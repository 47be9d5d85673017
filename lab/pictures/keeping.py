"""Draws an axis once: matplotlib takes 0.3 ms for each of its ticks, most of which all trials of a study share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg

__all__ = ["inked", "keep_drawn"]


class _Drawn(NamedTuple):
    """An axis as it was drawn between the limits `limits`: RGBA [H, W, 4], from `left`, `below` pixels."""

    limits: tuple[float, ...]
    pixels: npt.NDArray[np.uint8]
    left: int
    below: int


class _KeptAxis(Artist):
    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self.set_zorder(axis.get_zorder())
        self._axis = axis
        self._drawn: _Drawn | None = None

    def draw(self, renderer: Any) -> None:
        limits = tuple(map(float, self._axis.get_view_interval()))
        if self._drawn is None or self._drawn.limits != limits:
            self._drawn = _draw(self._axis, limits, renderer)
        gc = renderer.new_gc()
        renderer.draw_image(gc, self._drawn.left, self._drawn.below, self._drawn.pixels)
        gc.restore()


def keep_drawn(axis: Axis) -> None:
    """Draw `axis` again only when its limits change: its ticks, grid and label must not change otherwise."""
    axis.axes.add_artist(_KeptAxis(axis))
    axis.set_visible(False)


def _draw(axis: Axis, limits: tuple[float, ...], renderer: RendererAgg) -> _Drawn:
    page = type(renderer)(renderer.width, renderer.height, renderer.dpi)
    axis.set_visible(True)
    axis.draw(page)
    axis.set_visible(False)
    return _Drawn(limits, *inked(page))


def inked(page: RendererAgg) -> tuple[npt.NDArray[np.uint8], int, int]:
    """Return what was drawn on an empty page: RGBA [H, W, 4] from the bottom up, its left and its lower edge."""
    pixels = np.asarray(page.buffer_rgba())[::-1]
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=side)) for side in (1, 0))
    if not rows.size:
        return np.zeros((1, 1, 4), dtype=np.uint8), 0, 0
    part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return part, int(columns[0]), int(rows[0])
