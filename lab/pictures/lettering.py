"""Draws each text once: figures repeat the same numbers and names, and matplotlib takes 0.3 ms to draw one."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties

__all__ = ["LetteringCanvas"]

_MOST_TEXTS = 4096  # of about a kilobyte each
_ROOM = 4  # pixels around a text


class _Lettering(NamedTuple):
    """A text as its coverage, uint8 [H, W], whose lower left corner is `left`, `below` pixels from where it begins."""

    coverage: npt.NDArray[np.uint8]
    left: int
    below: int


class LetteringCanvas(FigureCanvasAgg):
    """A canvas for files that keeps the texts it has drawn for the next figures."""

    def page(self) -> npt.NDArray[np.uint8]:
        """Draw the figure; return its pixels, RGBA [H, W, 4]."""
        self.draw()  # type: ignore[no-untyped-call]
        return np.asarray(self.buffer_rgba())  # type: ignore[no-untyped-call]

    def get_renderer(self) -> RendererAgg:
        """Return what draws on it."""
        width, height = self.get_width_height(physical=True)
        key = width, height, self.figure.dpi
        if self._lastKey != key:
            self.renderer = _Renderer(width, height, self.figure.dpi)  # type: ignore[no-untyped-call]
            self._lastKey = key
        renderer: RendererAgg = self.renderer
        return renderer


class _Renderer(RendererAgg):
    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: FontProperties, angle: float, *_: Any, **__: Any
    ) -> None:
        found = _lettering(s, prop.copy(), angle, self.dpi)
        self._renderer.draw_text_image(found.coverage, round(x) + found.left, round(y) + found.below, 0, gc)

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        return _extent(s, prop.copy(), self.dpi)


@functools.lru_cache(maxsize=_MOST_TEXTS)
def _lettering(text: str, font: FontProperties, angle: float, dpi: float) -> _Lettering:
    width, height, _ = _extent(text, font, dpi)
    reach = math.ceil(math.hypot(width, height)) + _ROOM  # whatever the angle
    page = RendererAgg(2 * reach, 2 * reach, dpi)
    page.draw_text(page.new_gc(), reach, reach, text, font, angle)
    coverage = np.asarray(page.buffer_rgba())[..., 3]
    rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return _Lettering(np.zeros((1, 1), dtype=np.uint8), 0, 0)
    inked = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return _Lettering(inked, int(columns[0]) - reach, int(rows[-1]) + 1 - reach)


@functools.lru_cache(maxsize=_MOST_TEXTS)
def _extent(text: str, font: FontProperties, dpi: float) -> tuple[float, float, float]:
    """Return the width, the height and the descent of a text, in pixels."""
    extent: tuple[float, float, float] = RendererAgg(1, 1, dpi).get_text_width_height_descent(
        text, font, ismath=False
    )
    return extent
