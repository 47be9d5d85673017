"""How figures are drawn and logged: in one style whatever the user's is, with every text taken literally.

pyplot is not used: it keeps global state.
"""

from __future__ import annotations

import functools
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from lab.pictures.lettering import LetteringCanvas
from lab.pictures.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from lab.tracking import Run

__all__ = [
    "BLUE",
    "DPI",
    "GREEN",
    "GREY",
    "ORANGE",
    "TITLE_AT",
    "finish_axes",
    "framed",
    "label",
    "log_figure",
    "new_figure",
    "number_log_axis",
    "plain_style",
]

DPI = 100
TITLE_AT = 1.02  # fixed, because matplotlib takes 10 ms to place a title itself
BLUE, ORANGE, GREEN, GREY = "#4c72b0", "#dd8452", "#55a868", "#666666"

_LOGGER = logging.getLogger(__name__)
_FONT = "DejaVu Sans"  # comes with matplotlib
_OTHER_SCRIPTS = (  # whichever of these is installed draws the letters that _FONT lacks
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "Microsoft YaHei"),
    *("Hiragino Sans", "Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Emoji", "Symbola"),
)
_MOST_REASON = 200  # characters of the reason why a figure was not drawn
_LOCK = threading.RLock()  # matplotlib's settings are global to the process
_FRAMES: dict[Hashable, Figure] = {}
_MOST_FRAMES = 16


def log_figure(run: Run, path: str, draw: Callable[[], Figure]) -> None:
    """Draw a figure with `draw` and log it to `run` as the image `path` (`curves.png`).

    A figure that cannot be drawn does not fail the run: a warning says why, and an image that says so is logged in
    its place.

    Raises:
        TrackingError: the image cannot be stored.
    """
    image = None
    try:
        image = _png(draw)
    except Exception as error:  # noqa: BLE001  # libraries raise anything for values and texts that they do not take
        _FRAMES.clear()  # one of them may be in any state
        reason = label(f"{type(error).__name__}: {error}", _MOST_REASON)
        _LOGGER.warning("%s was not drawn: %s", path, reason)
        with suppress(Exception):  # matplotlib itself may be broken
            image = _png(functools.partial(_note, f"This figure could not be drawn.\n{reason}"))
    if image is not None:
        run.log_image(image, path)


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw with matplotlib's defaults instead of the user's style, and without mathematical notation.

    A name between dollar signs is a name, and a `matplotlibrc` that asks for LaTeX is meant for the user's own figures.
    """
    settings: Any = matplotlib.rcParams
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        # most are as they should be, and matplotlib checks each value that it is given
        settings.update({name: value for name, value in _plain().items() if settings[name] != value})
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the empty box says as much
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    LetteringCanvas(figure)
    return figure


def framed(build: Callable[..., Figure], *key: Hashable) -> Figure:
    """Return the empty figure `build(*key)`, that of the last call if there was one: it is in use until the next.

    To make axes with their ticks takes longer than to draw them. Whatever was added to these is removed: lines, bars,
    cells, texts and legends. Titles, labels and ticks stay, so `build` or every caller sets them.
    """
    figure = _FRAMES.pop((build, *key), None)
    if figure is None:
        figure = build(*key)
    else:
        for axes in figure.axes:
            _empty(axes)
    _FRAMES[build, *key] = figure  # the last one again
    if len(_FRAMES) > _MOST_FRAMES:
        del _FRAMES[next(iter(_FRAMES))]
    return figure


def finish_axes(axes: Axes, title: str, *, x: str = "", y: str = "") -> None:
    """Give `axes` a title, the labels `x` and `y`, and the grid and frame that all figures share."""
    axes.set_title(title, fontsize=11, loc="left", y=TITLE_AT)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def number_log_axis(axis: Axis, form: str) -> None:
    """Number a logarithmic `axis` as `form` says (`{:g}`), its small ticks too where it spans less than a decade."""
    axis.set_major_formatter(_LogNumbers(form))
    axis.set_minor_formatter(_LogNumbers(form))
    axis.set_tick_params(which="minor", labelsize=8)


class _LogNumbers(LogFormatter):
    """Chooses the ticks that get a number as matplotlib does, which would write a formula."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._form.format(x) if super().__call__(x, pos) else ""


def label(value: Any, most: int) -> str:
    """Return `value` on one line of at most `most` characters; a long one keeps both ends, where names differ."""
    line = " ".join(str(value).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    tail = (most - 1) // 2
    return line if len(line) <= most else f"{line[: most - 1 - tail]}…{line[-tail:]}"


def _png(draw: Callable[[], Figure]) -> bytes:
    with plain_style():
        pixels = LetteringCanvas(draw()).page()
    return _encoded(pixels)


def _encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the colours of RGBA [H, W, 4] as a PNG.

    Pillow tries five filters on each row, which takes three times as long and makes such images no smaller.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # 0, no filter, before each row
    for channel in range(3):
        rows[:, 1 + channel :: 3] = pixels[..., channel]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _empty(axes: Axes) -> None:
    legend = axes.get_legend()
    added = [*axes.lines, *axes.patches, *axes.collections, *axes.texts, *([legend] if legend else [])]
    added += [artist for artist in axes.artists if isinstance(artist, Words)]
    for artist in added:
        artist.remove()
    axes.relim()
    axes.autoscale()


def _note(text: str) -> Figure:
    figure = new_figure(7.2, 2.4)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, color=GREY, wrap=True)
    return figure


@functools.cache
def _plain() -> dict[str, Any]:
    defaults = matplotlib.rcParamsDefault.items()
    plain = {str(name): value for name, value in defaults if not name.startswith("backend")}
    return plain | {"text.parse_math": False, "font.family": _fonts()}


@functools.cache
def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [_FONT, *(name for name in _OTHER_SCRIPTS if name in installed)]
