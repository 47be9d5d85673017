"""Writes many texts at once: matplotlib takes 0.3 ms for each text that is an artist of its own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.transforms import Transform

from lab.pictures.lettering import text_extent

__all__ = ["Word", "Words"]


class Word(NamedTuple):
    """A text and where it is."""

    x: float
    y: float
    text: str
    color: str = "black"


class Words(Artist):
    """Texts of one line each, in one font."""

    def __init__(
        self,
        words: Sequence[Word],
        transform: Transform,
        *,
        size: float,
        weight: str = "normal",
        ha: str = "left",
        va: str = "baseline",
    ) -> None:
        """Create the artist.

        Args:
            words: the texts; more may be set later.
            transform: from their places to pixels.
            size: of the letters, in points.
            weight: `normal` or `bold`.
            ha: which side of a text is at its place: `left`, `center` or `right`.
            va: which height of it, as in matplotlib: `baseline`, `center`, `center_baseline` or `bottom`. Letters count
                as no taller than digits.
        """
        super().__init__()
        self.set_transform(transform)
        self.set_zorder(Text.zorder)
        self.words = words
        self._font = FontProperties(size=size, weight=weight)
        self._part = {"left": 0.0, "center": 0.5, "right": 1.0}[ha]
        self._va = va

    def draw(self, renderer: Any) -> None:
        """Draw all texts."""
        if not self.words:
            return
        places = self.get_transform().transform(
            [(word.x, word.y) for word in self.words]
        )  # [words, 2], pixels
        bottom = renderer.height + self._drop(renderer.dpi)
        gc = renderer.new_gc()
        for word, (x, y) in zip(self.words, places, strict=True):
            left = x - self._part * self._width(word, renderer.dpi)
            gc.set_foreground(word.color)
            renderer.draw_text(gc, left, bottom - y, word.text, self._font, 0.0)
        gc.restore()

    def widest(self, dpi: float) -> float:
        """Return the width of the widest text, in pixels."""
        return max((self._width(word, dpi) for word in self.words), default=0.0)

    def _width(self, word: Word, dpi: float) -> float:
        return text_extent(word.text, self._font, dpi)[0]

    def _drop(self, dpi: float) -> float:
        """Return how far below its place the baseline of a text is, in pixels."""
        ascent, descent = _line(self._font, dpi)
        drops = {"center": (ascent - descent) / 2, "center_baseline": ascent / 2, "bottom": -descent}
        return drops.get(self._va, 0.0)


@functools.lru_cache
def _line(font: FontProperties, dpi: float) -> tuple[float, float]:
    """Return how far a line of numbers reaches above and below its baseline, in pixels."""
    box = (
        Figure(dpi=dpi)
        .text(0, 0, "0", fontproperties=font, va="baseline")
        .get_window_extent(RendererAgg(1, 1, dpi))
    )
    return box.y1, -box.y0
