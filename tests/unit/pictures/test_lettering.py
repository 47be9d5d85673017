"""Texts are drawn once, and look as matplotlib draws them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lab.pictures.drawing import DPI
from lab.pictures.lettering import LetteringCanvas, _lettering


def drawn(canvas: type[FigureCanvasAgg], text: str, **style: object) -> npt.NDArray[np.float64]:
    """Return the pixels of a text, [H, W, 3]."""
    figure = Figure(figsize=(2, 1), dpi=DPI)
    page = canvas(figure)
    figure.text(0.5, 0.5, text, ha="center", va="center", **style)  # type: ignore[arg-type]
    page.draw()
    return np.asarray(page.buffer_rgba())[..., :3].astype(float)


@pytest.mark.parametrize("angle", [0, 45, 90])
@pytest.mark.parametrize("text", ["98.3%", "gyp, Ägypten", "", " "])
def test_a_text_is_where_and_what_matplotlib_draws(text: str, angle: int) -> None:
    style = {"rotation": angle, "color": "#c04000", "weight": "bold", "fontsize": 9}
    ours, theirs = drawn(LetteringCanvas, text, **style), drawn(FigureCanvasAgg, text, **style)
    # within a pixel: it begins at a whole one
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    differs = min(np.abs(np.roll(ours, shift, (0, 1)) - theirs).mean() for shift in shifts)
    assert differs <= 0.5 * (255 - theirs).mean()  # another text of the same letters: 0.97 and more
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.001)


def test_a_text_is_drawn_once_for_all_colours_and_places() -> None:
    _lettering.cache_clear()
    for color in ("black", "red"):
        for _ in range(3):
            drawn(LetteringCanvas, "12", color=color)
    assert _lettering.cache_info().misses == 1
    drawn(LetteringCanvas, "12", fontsize=20)
    assert _lettering.cache_info().misses == 2
