"""How figures are drawn and logged: in one style whatever the user's is, all text as it stands, none at a run's cost.

Without pyplot, which keeps global state.
"""

from __future__ import annotations

import functools
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lab.tracking.run import Run

__all__ = ["DPI", "TITLE_AT", "label", "log_figure", "new_figure", "plain_style"]

DPI = 100
TITLE_AT = 1.02  # given, because matplotlib takes 10 ms to find a place for a title itself

_LOGGER = logging.getLogger(__name__)
_FONT = "DejaVu Sans"  # comes with matplotlib
_OTHER_SCRIPTS = (  # those that are installed draw what it has no letters for
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "Microsoft YaHei"),
    *("Hiragino Sans", "Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Emoji", "Symbola"),
)
_MOST_REASON = 200  # letters of why a figure was not drawn
_LOCK = threading.RLock()  # matplotlib's settings are those of the whole process


def log_figure(run: Run, path: str, draw: Callable[[], Figure]) -> None:
    """Log what `draw` draws as the image `path` (`curves.png`).

    What cannot be drawn costs nothing but itself: a warning says why, and an image that says so takes its place.

    Raises:
        TrackingError: the image cannot be stored.
    """
    image = None
    try:
        image = _png(draw)
    except Exception as error:  # noqa: BLE001  # a value or a text that a library does not take raises anything
        reason = label(f"{type(error).__name__}: {error}", _MOST_REASON)
        _LOGGER.warning("%s was not drawn: %s", path, reason)
        with suppress(Exception):  # matplotlib itself may be what is broken
            image = _png(functools.partial(_note, f"This figure could not be drawn.\n{reason}"))
    if image is not None:
        run.log_image(image, path)


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw with matplotlib's defaults, not the user's style, and take no text for a formula.

    A name between dollar signs is a name, and a `matplotlibrc` that asks for LaTeX is for the user's own figures.
    """
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"text.parse_math": False, "font.family": _fonts()})
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # an empty box says as much
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def label(value: Any, most: int) -> str:
    """Return `value` on one line, with at most so many characters: those at both ends, where names differ."""
    line = " ".join(str(value).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    tail = (most - 1) // 2
    return line if len(line) <= most else f"{line[: most - 1 - tail]}…{line[-tail:]}"


def _png(draw: Callable[[], Figure]) -> bytes:
    image = io.BytesIO()
    with plain_style():
        draw().savefig(image, format="png")
    return image.getvalue()


def _note(text: str) -> Figure:
    figure = new_figure(7.2, 2.4)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color="#666666", wrap=True)
    return figure


@functools.cache
def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [_FONT, *(name for name in _OTHER_SCRIPTS if name in installed)]
