"""The figures of a report in plotly's own form: `data` and `layout` as plain values.

Colours are not in it: a trace says in `meta` which one it has (`color`: a number of the palette, `shade`: one of the
scale, `heat`: the whole scale), and the page's script fills in those of the reader's light or dark theme.

Plotly takes a few HTML tags in texts for markup, so every text from a study is escaped.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.config import in_percent
from lab.pictures import label
from lab.report.sections.curves import Curve, CurvePanel
from lab.report.sections.mattered import Mattered
from lab.report.sections.mistakes import Mistakes
from lab.report.sections.parallel import Axis, Line, Parallel
from lab.report.sections.slices import HeatMap, Slice, Slices
from lab.report.sections.source import round_numbers
from lab.report.sections.tradeoffs import Tradeoff, TradeoffPoint

__all__ = [
    "DASHES",
    "SHADES",
    "Figure",
    "confusion_figure",
    "curves_figure",
    "heat_figure",
    "importance_figure",
    "parallel_figure",
    "slice_figures",
    "tradeoff_figure",
]

#: Number of colours in the scale from the worst to the best.
SHADES: Final = 7
#: Of the curves, in pixels, so that they can be told apart without colours; as SVG and plotly take them.
DASHES: Final = (
    "none",
    "9px,3px",
    "2px,3px",
    "9px,3px,2px,3px",
    "14px,4px",
    "5px,3px",
    "2px,6px",
    "14px,3px,2px,3px",
)

_LONGEST = 28  # characters of a value on an axis
_WIDE = 4  # times between the lowest and the highest cost that call for a log axis
_ROW = 26  # pixels for a row of a heat map or of bars
_MOST_TEXTS = 15  # columns of a heat map that still have room for numbers

Values = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure: what it shows, in a few words and in a sentence for those who cannot see it; plotly's `data`, `layout`.

    `wide`: it takes the whole width; `scrolls`: on a narrow screen it scrolls, because it cannot be made narrower.
    """

    title: str
    summary: str
    data: list[Values]
    layout: Values
    wide: bool = False
    scrolls: bool = False


def importance_figure(found: Mattered, metric: str) -> Figure | None:
    """Return the share of each dimension, over all cells and for the best ones, with intervals."""
    if found.found is None:
        return None
    dimensions = found.found.dimensions[::-1]
    names = [_text(each.name) for each in dimensions]
    traces = []
    for color, (heading, shares) in enumerate(
        {
            "for the best": [each.best for each in dimensions],
            "overall": [each.overall for each in dimensions],
        }.items()
    ):
        error = {
            "type": "data",
            "symmetric": False,
            "array": _plain(share.high - share.value for share in shares),
            "arrayminus": _plain(share.value - share.low for share in shares),
        }
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": heading,
                "y": names,
                "x": _plain(share.value for share in shares),
                "error_x": error,
                "meta": {"color": color},
                "hovertemplate": f"%{{y}}: %{{x:.0%}} {heading}<extra></extra>",
            }
        )
    layout = {
        "height": 130 + 2 * _ROW * len(names),
        "barmode": "group",
        "xaxis": {"title": {"text": "share of the importance"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"type": "category", "automargin": True},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    }
    return Figure(
        "Importance", f"Importance of each setting for {metric}. {found.verdict}", traces, layout, wide=True
    )


def parallel_figure(found: Parallel, descending: bool) -> Figure | None:
    """Return a line for each cell through all dimensions, the shade by its rank."""
    if not found.lines:
        return None
    groups: list[list[Line]] = [[] for _ in range(SHADES)]
    for place, line in enumerate(found.lines):
        groups[SHADES - 1 - place * SHADES // len(found.lines)].append(line)
    traces = [_lines(group, shade) for shade, group in enumerate(groups) if group]
    layout = {
        "height": 420,
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": {
            "tickvals": list(range(len(found.axes))),
            "ticktext": [_text(axis.name) for axis in found.axes],
            "side": "top",
            "range": [-0.3, len(found.axes) - 0.4],
            "gridwidth": 2,
        },
        "yaxis": {"visible": False, "range": [-0.06, 1.06]},
        "annotations": [note for place, axis in enumerate(found.axes) for note in _ticks(place, axis)],
        "margin": {"l": 12, "r": 12, "t": 44, "b": 12},
    }
    which = "highest" if descending else "lowest"
    summary = (
        f"Parallel coordinates of {len(found.lines)} cells over {', '.join(axis.name for axis in found.axes)}; "
        f"the cells with the {which} {found.metric} are drawn strongest."
    )
    return Figure("Parallel coordinates", summary, traces, layout, wide=True, scrolls=True)


def _lines(group: Sequence[Line], shade: int) -> Values:
    """Return one trace of several lines, with a gap between any two."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    for line in group:
        places = [(place, at) for place, at in enumerate(line.positions) if at is not None]
        xs += [*(place for place, _ in places), None]
        ys += [*_plain(at for _, at in places), None]
        texts += [f"{line.rank}. {_text(line.name, 80)}"] * len(places) + [""]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"width": 1 + shade / (SHADES - 1), "shape": "spline", "smoothing": 0.4},
        "opacity": 0.55 + 0.45 * shade / (SHADES - 1),
        "meta": {"shade": shade},
    }


def _ticks(place: int, axis: Axis) -> Iterable[Values]:
    for at, text in axis.ticks:
        yield {
            "x": place,
            "y": at,
            "text": _text(text),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 5,
            "font": {"size": 11},
            "name": "tick",  # the page's script puts the page's background behind it
        }


def slice_figures(found: Slices) -> list[Figure]:
    """Return the mean of each value of each dimension with its interval, all at the same scale."""
    ends = [
        end for each in found.slices for end in (*each.means, *each.lows, *each.highs) if math.isfinite(end)
    ]
    room = 0.06 * ((max(ends) - min(ends)) or 1.0) if ends else 0.0
    return [_slice(each, found.metric, [min(ends) - room, max(ends) + room]) for each in found.slices]


def _slice(found: Slice, metric: str, scale: list[float]) -> Figure:
    names = [_text(value) for value in found.values]
    error = {
        "type": "data",
        "symmetric": False,
        "array": _plain(high - mean for high, mean in zip(found.highs, found.means, strict=True)),
        "arrayminus": _plain(mean - low for low, mean in zip(found.lows, found.means, strict=True)),
    }
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": names,
        "y": _plain(found.means),
        "error_y": error,
        "marker": {"size": 9},
        "customdata": list(found.counts),
        "meta": {"color": 0},
        "hovertemplate": f"%{{x}}: %{{y:{_format(metric, found.means)}}} (n=%{{customdata}})<extra></extra>",
    }
    layout = {
        "height": 270,
        "xaxis": {"type": "category", "title": {"text": _text(found.name)}, "automargin": True},
        "yaxis": {
            "title": {"text": f"mean {_text(metric)}"},
            "tickformat": _ticks_of(metric, found.means),
            "automargin": True,
            "range": _plain(scale),
        },
    }
    values = ", ".join(
        f"{value} {_number(metric, mean)}" for value, mean in zip(found.values, found.means, strict=True)
    )
    return Figure(found.name, f"Mean {metric} by {found.name}: {values}.", [trace], layout)


def heat_figure(found: HeatMap, metric: str, descending: bool) -> Figure:
    """Return the mean of each pair of values; the best is the strongest colour."""
    texts = [[_number(metric, value) if math.isfinite(value) else "" for value in row] for row in found.means]
    layout = {
        "height": 130 + _ROW * max(len(found.rows), 4),
        "xaxis": {"type": "category", "title": {"text": _text(found.across)}, "automargin": True},
        "yaxis": {
            "type": "category",
            "title": {"text": _text(found.down), "standoff": 12},
            "automargin": True,
            "autorange": "reversed",
        },
    }
    trace = _heat(found.means, found.columns, found.rows, texts, reverse=not descending)
    trace["customdata"] = [list(row) for row in found.counts]
    trace["hovertemplate"] = (
        f"%{{y}}, %{{x}}: %{{z:{_format(metric, itertools.chain(*found.means))}}} (n=%{{customdata}})<extra></extra>"
    )
    summary = f"Mean {metric} for each pair of {found.down} and {found.across}."
    return Figure(f"{found.down} × {found.across}", summary, [trace], layout)


def _heat(
    values: Sequence[Sequence[float]],
    columns: Sequence[str],
    rows: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    reverse: bool = False,
) -> Values:
    return {
        "type": "heatmap",
        "z": [_plain(row) for row in values],
        "x": [_text(name) for name in columns],
        "y": [_text(name) for name in rows],
        "text": [list(row) for row in texts],
        "texttemplate": "%{text}" if len(columns) <= _MOST_TEXTS else "",
        "showscale": len(columns) > _MOST_TEXTS,
        "xgap": 1,
        "ygap": 1,
        "meta": {"heat": "reversed" if reverse else "as it is"},
    }


def curves_figure(panel: CurvePanel) -> Figure:
    """Return the curves of one metric, the mean of each cell's repeats within the band of all of them."""
    traces = [trace for curve in panel.curves for trace in _curve(curve, panel)]
    steps = max((curve.steps[-1] for curve in panel.curves), default=0)
    layout = {
        "height": 330,
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": {"title": {"text": panel.step}, "automargin": True, **({"dtick": 1} if steps <= 12 else {})},
        "yaxis": {
            "title": {"text": _text(panel.metric)},
            "tickformat": _ticks_of(panel.metric, _heights(panel)),
            "automargin": True,
        },
    }
    last = ", ".join(f"{curve.name} {_number(panel.metric, curve.means[-1])}" for curve in panel.curves)
    return Figure(panel.metric, f"{panel.metric} by {panel.step}; at the end: {last}.", traces, layout)


def _heights(panel: CurvePanel) -> Iterable[float]:
    return itertools.chain(*(curve.means for curve in panel.curves))


def _curve(curve: Curve, panel: CurvePanel) -> Iterable[Values]:
    number = _format(panel.metric, _heights(panel))
    about = {
        "meta": {"color": curve.place},
        "legendgroup": str(curve.place),
        "name": f"{curve.rank}. {_text(curve.name, 60)}",
    }
    if curve.n > 1:
        yield {
            **about,
            "type": "scatter",
            "mode": "lines",
            "x": [*curve.steps, *curve.steps[::-1]],
            "y": _plain([*curve.highs, *curve.lows[::-1]]),
            "fill": "toself",
            "line": {"width": 0},
            "hoverinfo": "skip",
        }
    yield {
        **about,
        "type": "scatter",
        "mode": "lines",
        "x": list(curve.steps),
        "y": _plain(curve.means),
        "line": {"width": 2, "dash": "solid" if curve.place == 0 else DASHES[curve.place]},
        "hovertemplate": f"%{{fullData.name}}<br>{panel.step} %{{x}}: %{{y:{number}}}<extra></extra>",
    }


def tradeoff_figure(found: Tradeoff) -> Figure:
    """Return accuracy against a cost, with the Pareto front."""
    front = sorted((point for point in found.points if point.on_front), key=lambda point: point.cost)
    others = [point for point in found.points if not point.on_front]
    traces = [
        {**_points(others, found), "mode": "markers", "name": "cells", "marker": {"size": 7, "opacity": 0.7}},
        {
            **_points(front, found),
            "mode": "lines+markers+text",
            "textposition": "top center",
            "cliponaxis": False,  # the rank of the best is above the highest value
            "name": "Pareto front, with ranks",
            "line": {"shape": "hv", "width": 1.5},
            "marker": {"size": 10, "symbol": "diamond"},
        },
    ]
    layout = {
        "height": 320,
        "hovermode": "closest",
        "xaxis": {"title": {"text": found.heading}, "automargin": True, **_cost_axis(found)},
        "yaxis": {
            "title": {"text": _text(found.accuracy)},
            "tickformat": _ticks_of(found.accuracy, [point.accuracy for point in found.points]),
            "automargin": True,
        },
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
    }
    for color, trace in enumerate(traces):
        trace["meta"] = {"color": color}
    named = ", ".join(f"{point.name} ({_number(found.accuracy, point.accuracy)})" for point in front)
    summary = f"{found.accuracy} against {found.heading} of {len(found.points)} cells. On the Pareto front: {named}."
    return Figure(f"{found.accuracy} and {found.heading}", summary, traces, layout)


def _points(points: Sequence[TradeoffPoint], found: Tradeoff) -> Values:
    value = f"%{{x:.4~s}}, %{{y:{_format(found.accuracy, [point.accuracy for point in found.points])}}}"
    return {
        "type": "scatter",
        "x": _plain(point.cost for point in points),
        "y": _plain(point.accuracy for point in points),
        "text": [str(point.rank) for point in points],
        "customdata": [f"{point.rank}. {_text(point.name, 60)}" for point in points],
        "hovertemplate": f"%{{customdata}}<br>{value}<extra></extra>",
    }


def _cost_axis(found: Tradeoff) -> Values:
    """Return a log axis with round numbers if the costs differ by more than a few times."""
    costs = [point.cost for point in found.points]
    low, high = min(costs), max(costs)
    if low <= 0 or high / low < _WIDE:
        return {"tickvals": (ticks := round_numbers(low, high)), "ticktext": [_short(at) for at in ticks]}
    ticks = round_numbers(low, high, log=True)
    return {"type": "log", "tickvals": ticks, "ticktext": [_short(at) for at in ticks]}


def _short(number: float) -> str:
    """Return `0.5`, `20`, `5k`, `1.2M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def confusion_figure(found: Mistakes) -> Figure | None:
    """Return the confusion matrix, each row in percent of its images; None if there are too many classes."""
    if not found.classes:
        return None
    shares = [[count / max(sum(row), 1) for count in row] for row in found.counts]
    texts = [[str(count) if count else "" for count in row] for row in found.counts]
    size = min(130 + _ROW * max(len(found.classes), 4), 900)
    trace = _heat(shares, found.classes, found.classes, texts)
    trace |= {"customdata": [list(row) for row in found.counts], "zmin": 0, "zmax": 1}
    trace["hovertemplate"] = "%{y} taken for %{x}: %{customdata} images (%{z:.1%})<extra></extra>"
    layout = {
        "height": size,
        "xaxis": {"type": "category", "title": {"text": "predicted"}, "automargin": True},
        "yaxis": {"type": "category", "title": {"text": "true"}, "automargin": True, "autorange": "reversed"},
    }
    right = sum(row[place] for place, row in enumerate(found.counts))
    summary = (
        f"Confusion matrix of {len(found.classes)} classes: {right} of {found.images} images are recognised."
    )
    return Figure("Confusion matrix", summary, [trace], layout)


def _text(value: str, longest: int = _LONGEST) -> str:
    """Return a text that plotly shows as it stands, on one line."""
    return html.escape(label(value, longest), quote=False)


def _plain(values: Iterable[float]) -> list[float | None]:
    """Return numbers with six digits, and None for what JSON has no number for."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _format(metric: str, values: Iterable[float]) -> str:
    return ".2%" if in_percent(metric, values) else ".4~g"


def _ticks_of(metric: str, values: Iterable[float]) -> str:
    return ".3~p" if in_percent(metric, values) else ""


def _number(metric: str, value: float) -> str:
    return f"{value:.1%}" if in_percent(metric, [value]) else f"{value:.3g}"
