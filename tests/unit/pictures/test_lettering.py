"""Texts are drawn once, and look as matplotlib draws them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from lab.pictures.drawing import DPI
from lab.pictures.lettering import LetteringCanvas, _lettering, text_extent

NUMBERS = ("0.123456789", "1,117", "98.3%", "−40")


def drawn(canvas: type[FigureCanvasAgg], text: str, **style: object) -> npt.NDArray[np.float64]:
    """Return the pixels of a text, [H, W, 3]."""
    figure = Figure(figsize=(2, 1), dpi=DPI)
    page = canvas(figure)
    figure.text(**{"x": 0.5, "y": 0.5, "s": text, "ha": "center", "va": "center", **style})  # type: ignore[arg-type]
    page.draw()
    return np.asarray(page.buffer_rgba())[..., :3].astype(float)


@pytest.mark.parametrize("angle", [0, 45, 90])
@pytest.mark.parametrize("text", ["98.3%", "gyp, Ägypten", "28 of 360 images", "אב 12 גד", "x1̈2", "", " "])
def test_a_text_is_where_and_what_matplotlib_draws(text: str, angle: int) -> None:
    style = {"rotation": angle, "color": "#c04000", "weight": "bold", "fontsize": 9}
    ours, theirs = drawn(LetteringCanvas, text, **style), drawn(FigureCanvasAgg, text, **style)
    # within a pixel: it begins at a whole one
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    differs = min(np.abs(np.roll(ours, shift, (0, 1)) - theirs).mean() for shift in shifts)
    assert differs <= 0.5 * (255 - theirs).mean()  # another text of the same letters: 0.97 and more
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.001)


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_digits_that_are_drawn_one_by_one_look_as_matplotlib_draws_numbers(text: str, weight: str) -> None:
    for size in range(6, 13):
        style = {"x": 0.5, "y": 0.25, "ha": "left", "va": "baseline", "weight": weight, "fontsize": size}
        assert (drawn(LetteringCanvas, text, **style) == drawn(FigureCanvasAgg, text, **style)).all()


@pytest.mark.parametrize("text", [*NUMBERS, "28 of 360 images", "(a, 1)", ""])
def test_a_text_is_as_large_as_matplotlib_says(text: str) -> None:
    font = FontProperties(size=9)
    theirs = RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, ismath=False)
    assert text_extent(text, font, DPI) == pytest.approx(theirs, abs=0.0 if text in NUMBERS else 1.0)


def test_texts_share_what_is_drawn_but_for_their_numbers() -> None:
    _lettering.cache_clear()
    for text in ("accuracy 98.76%", "accuracy 67.89%"):
        drawn(LetteringCanvas, text)
    assert _lettering.cache_info().misses == len({"accuracy ", ".", "%", *"6789"})


def test_a_text_is_drawn_once_for_all_colours_and_places() -> None:
    _lettering.cache_clear()
    for color in ("black", "red"):
        for _ in range(3):
            drawn(LetteringCanvas, "one", color=color)
    assert _lettering.cache_info().misses == 1
    drawn(LetteringCanvas, "one", fontsize=20)
    assert _lettering.cache_info().misses == 2
