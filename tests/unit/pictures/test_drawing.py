"""Figures with any text, under any user style, and without failing their run."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lab.pictures import iteration_curves, log_figure
from lab.pictures.drawing import label, new_figure, plain_style
from lab.pictures.lettering import LetteringCanvas
from lab.tracking import MemoryTracker

NAMES = (
    "$x_$",
    "cost $5 or $\\frac{1",
    "a^2_i",
    "_hidden",
    "%s {0}",
    "猫😀",
    "\udcff",
    "a\nb\tc",
    "",
    "x" * 500,
)


def logged(draw: Any) -> dict[str, bytes]:
    tracker = MemoryTracker()
    run = tracker.open_run(name="r", experiment=tracker.experiment("e"), tags={})
    log_figure(run, "a.png", draw)
    return tracker.artifacts(run.run_id)


def written(text: str) -> Figure:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.set_title(text)
    axes.set_xticks([0], [text])
    axes.annotate(text, (0, 0))
    axes.plot([0], [0], label="one")
    axes.legend(title=text)
    return figure


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_written_as_it_stands(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert logged(lambda: written(label(name, 40)))["a.png"].startswith(b"\x89PNG")
    assert not caplog.records


def test_the_image_is_what_was_drawn() -> None:
    figure = written("cat")
    figure.patch.set_facecolor("#204080")
    with Image.open(io.BytesIO(logged(lambda: figure)["a.png"])) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == LetteringCanvas(figure).page()[..., :3]).all()


def test_a_name_between_dollars_takes_as_much_room_as_another() -> None:
    def width(text: str) -> float:
        with plain_style():
            figure = new_figure(3, 1)
            return figure.text(0, 0, text).get_window_extent().width

    assert width("$a$") > width("a")


@pytest.mark.parametrize(
    "style",
    [{"text.usetex": True}, {"savefig.bbox": "tight", "savefig.format": "pdf"}, {"font.family": "none"}],
)
def test_the_users_style_is_for_the_users_figures(style: dict[str, Any]) -> None:
    plain = logged(lambda: written("cat"))
    with matplotlib.rc_context(style):
        assert logged(lambda: written("cat")) == plain
        assert {key: matplotlib.rcParams[key] for key in style} == style or style == {"font.family": "none"}


def test_a_figure_that_cannot_be_drawn_costs_the_figure(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Figure:
        raise ValueError("no $such$\nthing")

    with caplog.at_level(logging.WARNING):
        assert logged(broken)["a.png"].startswith(b"\x89PNG")  # an image that says why
    assert [record.message for record in caplog.records] == [
        "a.png was not drawn: ValueError: no $such$ thing"
    ]


def test_nor_does_one_that_breaks_while_it_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "draw", None)  # a broken matplotlib
    assert logged(lambda: written("cat")) == {}


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    with plain_style():
        loss = iteration_curves({1: {"step_loss": 1.0}, 2: {"step_loss": 0.001}}).axes[0]
        assert {"0.01", "0.1", "1"} <= {tick.get_text() for tick in loss.get_yticklabels()}
