"""Draws each text once: figures repeat the same numbers and names, and matplotlib takes 1 ms to draw one."""

from __future__ import annotations

import functools
import math
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties

__all__ = ["LetteringCanvas", "text_extent"]

_MOST_TEXTS = 4096  # of about a kilobyte each
_ROOM = 4  # pixels around a text
# Latin letters, punctuation, arrows and signs: neither are they reordered, nor do they join the digit before them
_SIMPLE = re.compile("[ -\u02ff\u2010-\u2027\u2190-\u22ff]*")


class _Lettering(NamedTuple):
    """A text as its coverage, uint8 [H, W], whose lower left corner is `left`, `below` pixels from where it begins.

    Without its rotation it is `width` x `height` pixels, `descent` of them below the baseline.
    """

    coverage: npt.NDArray[np.uint8]
    left: int
    below: int
    width: float
    height: float
    descent: float


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
        font, left, below = prop.copy(), float(round(x)), round(y)
        for part in [s] if angle else _parts(s):
            found = _lettering(part, font, angle, self.dpi)
            at = round(left) + found.left
            self._renderer.draw_text_image(found.coverage, at, below + found.below, 0, gc)
            left += found.width

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        return text_extent(s, prop.copy(), self.dpi)


@functools.lru_cache(maxsize=_MOST_TEXTS)
def _parts(text: str) -> list[str]:
    """Return the digits of a text and what is between them, so that texts with other numbers share what is drawn.

    Fonts place digits at whole pixels, and give them no kerning.
    """
    return re.findall(r"[0-9]|[^0-9]+", text) if _SIMPLE.fullmatch(text) else [text]


@functools.lru_cache(maxsize=_MOST_TEXTS)
def _lettering(text: str, font: FontProperties, angle: float, dpi: float) -> _Lettering:
    extent = RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, ismath=False)
    reach = math.ceil(math.hypot(*extent[:2])) + _ROOM  # whatever the angle
    page = RendererAgg(2 * reach, 2 * reach, dpi)
    page.draw_text(page.new_gc(), reach, reach, text, font, angle)
    coverage = np.asarray(page.buffer_rgba())[..., 3]
    rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return _Lettering(np.zeros((1, 1), dtype=np.uint8), 0, 0, *extent)
    inked = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return _Lettering(inked, int(columns[0]) - reach, int(rows[-1]) + 1 - reach, *extent)


def text_extent(text: str, font: FontProperties, dpi: float) -> tuple[float, float, float]:
    """Return the width, the height and the descent of a text, in pixels."""
    parts = [_lettering(part, font, 0.0, dpi) for part in _parts(text)]
    descent = max((part.descent for part in parts), default=0.0)
    ascent = max((part.height - part.descent for part in parts), default=0.0)
    return sum(part.width for part in parts), ascent + descent, descent
