"""Texts that are written at once look as those that matplotlib draws one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

from lab.pictures.drawing import new_figure
from lab.pictures.lettering import LetteringCanvas
from lab.pictures.words import Word, Words

PLACES = ((0.2, 0.3, "12", "red"), (0.5, 0.7, "98.3%", "black"), (0.7, 0.2, "7", "#20c040"))


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    return LetteringCanvas(figure).page()


@pytest.mark.parametrize("ha", ["left", "center", "right"])
@pytest.mark.parametrize("va", ["baseline", "center", "center_baseline", "bottom"])
def test_they_are_where_and_what_matplotlib_draws(ha: str, va: str) -> None:
    figure, plain = new_figure(2, 1), new_figure(2, 1)
    words = [Word(*place) for place in PLACES]
    figure.add_artist(Words(words, figure.transFigure, size=8, weight="bold", ha=ha, va=va))
    for x, y, text, color in PLACES:
        plain.text(x, y, text, color=color, fontsize=8, weight="bold", ha=ha, va=va)
    assert (pixels(figure) == pixels(plain)).all()


def test_none_are_nothing() -> None:
    figure = new_figure(2, 1)
    words = Words([], figure.transFigure, size=8)
    empty = pixels(figure)
    figure.add_artist(words)
    assert (pixels(figure) == empty).all()
    assert words.widest(100) == 0
