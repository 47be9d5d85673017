"""Draws all ticks of an axis at once: matplotlib takes 0.4 ms for each of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import YAxis

from lab.pictures.words import Word, Words

__all__ = ["draw_ticks_at_once"]


class _Ticks(Artist):
    def __init__(self, axis: YAxis) -> None:
        super().__init__()
        self.set_zorder(axis.get_zorder())
        self._axis = axis
        tick = axis.get_major_ticks(1)[0]
        self._grid, self._marks = copy.copy(tick.gridline), copy.copy(tick.tick1line)
        self._numbers = Words(
            [],
            tick.label1.get_transform(),
            size=float(tick.label1.get_fontsize()),
            ha="right",
            va="center_baseline",
        )

    def draw(self, renderer: Any) -> None:
        axis = self._axis
        low, high = sorted(axis.get_view_interval())
        slack = 1e-10 * (high - low)  # as matplotlib has it
        places = [place for place in axis.get_majorticklocs() if low - slack <= place <= high + slack]
        formatter = axis.get_major_formatter()
        numbers = formatter.format_ticks(places)
        if formatter.get_offset():  # 1e6 above the axis: rare
            axis.set_visible(True)
            axis.draw(renderer)
            axis.set_visible(False)
            return
        self._grid.set_data(np.tile([0.0, 1.0, np.nan], len(places)), np.repeat(places, 3))
        self._marks.set_data(np.zeros(len(places)), places)
        self._numbers.words = [Word(0, *tick) for tick in zip(places, numbers, strict=True)]
        for artist in (self._grid, self._marks, self._numbers):
            artist.draw(renderer)
        self._draw_label(renderer)

    def _draw_label(self, renderer: Any) -> None:
        right, _ = self._numbers.get_transform().transform((0, 0))
        label = self._axis.label
        label.set_x(right - self._numbers.widest(renderer.dpi) - self._axis.labelpad * renderer.dpi / 72)
        label.draw(renderer)


def draw_ticks_at_once(axis: YAxis) -> None:
    """Draw the major ticks of `axis`, their grid and numbers, and its label: that must be all there is of it."""
    axis.axes.add_artist(_Ticks(axis))
    axis.set_visible(False)
