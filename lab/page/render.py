"""Puts a report's sections, figures and scripts into one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline.offline import get_plotlyjs

from lab.page import figures
from lab.page.figures import DASHES, Figure
from lab.report import Report, StudyReport, duration, formatted

__all__ = ["render_page"]


@dataclass(frozen=True)
class StudyFigures:
    """The figures of one study by section; a section without any has an empty list."""

    importance: list[Figure]
    parallel: list[Figure]
    slices: list[Figure]
    maps: list[Figure]
    curves: list[Figure]
    tradeoffs: list[Figure]
    confusion: list[Figure]


@dataclass
class _Drawn:
    """Numbers the figures of a page, and collects what the page's script draws."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> int:
        """Return the number of a figure."""
        self.figures.append(figure)
        return len(self.figures) - 1

    def json(self) -> Markup:
        """Return all figures as JSON that cannot end the script element that it is in."""
        text = json.dumps(
            [{"data": each.data, "layout": each.layout} for each in self.figures], allow_nan=False
        )
        return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def render_page(report: Report) -> str:
    """Return the report as one HTML file that needs nothing else.

    Every name, description and error in it is shown literally. Only the page's own scripts may run: its policy has
    their hashes.
    """
    drawn, scripts = _Drawn(), [_plotly(), _own("report.js")]
    studies = [(study, _figures_of(study)) for study in report.studies]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=f"Report: {', '.join(study.study for study in report.studies)}",
            studies=studies,
            drawn=drawn,
            dashes=DASHES,
            styles=_own("report.css"),
            scripts=scripts,
            hashes=" ".join(map(_hash, scripts)),
        )
        .lstrip()
    )


def _figures_of(study: StudyReport) -> StudyFigures:
    descending = any(column.name == "best_value" and column.rises for column in study.board.columns)
    return StudyFigures(
        importance=_known(figures.importance_figure(study.mattered, study.metric)),
        parallel=_known(figures.parallel_figure(study.parallel, descending)),
        slices=figures.slice_figures(study.slices),
        maps=[figures.heat_figure(each, study.metric, descending) for each in study.slices.maps],
        curves=[figures.curves_figure(each) for each in study.curves.panels],
        tradeoffs=[figures.tradeoff_figure(each) for each in study.tradeoffs],
        confusion=_known(figures.confusion_figure(study.mistakes) if study.mistakes else None),
    )


def _known(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "or_dash": _or_dash}
    return environment


def _or_dash(value: float, metric: str) -> str:
    return formatted(metric, value) if math.isfinite(value) else "–"


@cache
def _own(name: str) -> Markup:
    return Markup(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


@cache
def _plotly() -> Markup:
    return Markup(get_plotlyjs().replace("</script", "<\\/script"))


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
