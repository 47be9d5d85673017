"""Comparisons of studies and of runs, as sentences and tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lab.config import in_percent
from lab.report.comparison import CellDifference, Comparison
from lab.report.differences import Difference
from lab.report.render import formatted
from lab.report.run_difference import RunDifference
from lab.report.statistics import FEWEST, accuracy_interval
from lab.wording import counted

__all__ = ["render_comparison", "render_run_difference", "verdict"]

_MOST_CELLS = 12
_LEAST_P = 0.0001


def verdict(found: Comparison) -> str:
    """Return the answer in one sentence: which side is better and by how much, or that they cannot be told apart."""
    how = _models_say(found) if found.is_single and found.models is not None else _values_say(found)
    how += _chosen(found)
    if found.winner is None:
        return f"{found.a} and {found.b} cannot be told apart: {how}."
    loser = found.b if found.winner == found.a else found.a
    return f"{found.winner} is better than {loser}: {how}."


def render_comparison(found: Comparison) -> RenderableType:
    """Return a comparison as tables to print, without its verdict; the widest differences of cells come first."""
    parts: list[RenderableType] = [_metrics_table(found)]
    if found.cells:
        parts.append(_cells_table(found))
    if found.models is not None and not found.is_single:
        parts.append(Text(f"Best models: {_models_say(found)}.\n"))
    if found.settings:
        parts.append(_pairs_table("Settings that differ", found.a, found.b, found.settings))
    return Group(*parts)


def render_run_difference(found: RunDifference) -> RenderableType:
    """Return what differs between two runs as tables to print."""
    a, b = found.a[:8], found.b[:8]
    groups = {
        f"Settings ({found.same} more are the same)": found.settings,
        "Code": found.code,
        "Data": found.data,
        "Versions": found.versions,
        "Machine": found.machine,
        "Outcome": found.outcome,
        "Metrics": {
            name: (_number(name, one), _number(name, other)) for name, (one, other) in found.metrics.items()
        },
    }
    return Group(*(_pairs_table(title, a, b, group) for title, group in groups.items() if group))


def _values_say(found: Comparison) -> str:
    whole, metric = found.whole, found.metric
    if not whole.test:
        return _too_few(found)
    typically = "typically " if whole.pairs == "cell" and whole.test.startswith("Wilcoxon") else ""
    if found.winner is None:
        how = _interval(metric, whole, whole.low, whole.high) + _tested(whole)
        size = _amount(metric, whole, whole.value)
        return f"{metric} of the first minus that of the second is {typically}{size} ({how})"
    is_higher = (whole.value > 0) == (found.winner == found.a)
    low, high = sorted(math.copysign(1, whole.value) * end for end in (whole.low, whole.high))
    size, how = _amount(metric, whole, abs(whole.value)), _interval(metric, whole, low, high) + _tested(whole)
    return f"its {metric} is {typically}{size} {'higher' if is_higher else 'lower'} ({how})"


def _chosen(found: Comparison) -> str:
    """Return from how many cells those that are compared were chosen, and which side that favours."""
    if max(found.chosen_from) == 1:
        return ""
    first, second = (f"the best of {n} cells" if n > 1 else "the only cell" for n in found.chosen_from)
    text = f": {first} of the first, and {second} of the second"
    if found.metric != found.monitor or len({*found.chosen_from}) == 1:
        return text
    return f"{text}. That favours the one with more cells: p does not allow for the choice"


def _too_few(found: Comparison) -> str:
    metric, whole = found.metric, found.whole
    if found.is_single:
        one, other = (formatted(metric, value) for value in (*whole.a, *whole.b))
        return f"one run each does not tell how much {metric} changes with the seed ({one} and {other})"
    first, second = (", ".join(formatted(metric, value) for value in values) for values in (whole.a, whole.b))
    counts = f"n={len(whole.a)} ({first}) and n={len(whole.b)} ({second})"
    return f"{metric} was measured with {counts}, and a test needs {FEWEST} repeats of each"


def _models_say(found: Comparison) -> str:
    models = found.models
    assert models is not None
    shares = [
        f"{correct / models.images:.2%} ({low:.2%} to {high:.2%})"
        for correct in (models.a_correct, models.b_correct)
        for low, high in [accuracy_interval(correct, models.images)]
    ]
    only = f"{models.only_a} only by the first, {models.only_b} only by the second"
    how = f"{only}; exact McNemar test, {_chance(models.p)}"
    images = counted(models.images, "test image")
    return f"the two models, of one seed each, recognise {shares[0]} and {shares[1]} of {images} ({how})"


def _metrics_table(found: Comparison) -> Table:
    some = "" if found.compared == found.shared else f"{found.compared} of the "
    compared = {
        "repeats": f"Means over {some}{counted(found.shared, 'cell')} that both have, compared by repeats"
        + ("; the others lack repeats" if some else ""),
        "cells": f"Means of {counted(found.shared, 'cell')} that both have, compared by pairs",
        "best": f"No cell is part of both, so the best cell of each by {found.monitor} is compared",
    }
    table = _table(compared[found.of], ("metric", found.a, found.b, "difference", "95 % interval"))
    for name, one in {found.metric: found.whole, **found.others}.items():
        table.add_row(*map(Text, (name, *_numbers(name, one))))
    return table


def _cells_table(found: Comparison) -> Table:
    def width(cell: CellDifference) -> tuple[float, float]:
        p = cell.difference.p_corrected
        return (math.inf if math.isnan(p) else p), -abs(cell.difference.value)

    shown = sorted(found.cells, key=width)[:_MOST_CELLS]
    some = f", the clearest {len(shown)} of {len(found.cells)}" if len(shown) < len(found.cells) else ""
    title = f"{found.metric} by cell{some}; p is corrected for their number (Holm)"
    table = _table(title, ("cell", found.a, found.b, "difference", "95 % interval", "p"))
    for each in shown:
        name = " ".join(f"{key}={value}" for key, value in each.cell.items())
        numbers = (*_numbers(found.metric, each.difference), _p(each.difference.p_corrected))
        table.add_row(*map(Text, (name, *numbers)))
    return table


def _pairs_table(title: str, a: str, b: str, pairs: Mapping[str, tuple[str, str]]) -> Table:
    table = _table(title, ("", a, b), right=())
    for name, pair in pairs.items():
        table.add_row(*map(Text, (name, *pair)))
    return table


def _table(title: str, columns: Sequence[str], right: Sequence[int] | None = None) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold"
    )
    for place, name in enumerate(columns):
        is_right = place > 0 if right is None else place in right
        table.add_column(Text(name), justify="right" if is_right else "left", overflow="fold")
    return table


def _numbers(metric: str, found: Difference) -> tuple[str, ...]:
    means = (formatted(metric, sum(values) / len(values)) for values in (found.a, found.b))
    interval = "–" if math.isnan(found.low) else _ends(metric, found, found.low, found.high)
    return (*means, _amount(metric, found, found.value, sign="+"), interval)


def _interval(metric: str, found: Difference, low: float, high: float) -> str:
    return "" if math.isnan(low) else f"95 % interval {_ends(metric, found, low, high)}; "


def _ends(metric: str, found: Difference, low: float, high: float) -> str:
    if in_percent(metric, (*found.a, *found.b)):
        return f"{low * 100:+.2f} to {high * 100:+.2f}"
    return f"{low:+.3g} to {high:+.3g}"


def _amount(metric: str, found: Difference, value: float, sign: str = "") -> str:
    if in_percent(metric, (*found.a, *found.b)):
        return f"{value * 100:{sign}.2f} points"
    return f"{value:{sign}.3g}" + (" s" if metric == "seconds" else "")


def _tested(found: Difference) -> str:
    if found.pairs:
        return f"{found.test} over {counted(len(found.a), found.pairs)}, {_chance(found.p)}"
    return f"{found.test} with {len(found.a)} and {len(found.b)} repeats, {_chance(found.p)}"


def _chance(p: float) -> str:
    return f"p {_p(p)}" if p < _LEAST_P else f"p = {_p(p)}"


def _p(p: float) -> str:
    if math.isnan(p):
        return "–"
    return f"< {_LEAST_P}" if p < _LEAST_P else f"{p:.2g}"


def _number(name: str, value: float | None) -> str:
    return "–" if value is None else formatted(name, float(value))
