"""The question that a study asks, and the answer in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.differences import difference
from lab.report.render import formatted, spread
from lab.report.repeats import outcome_counts, repeat_names
from lab.report.sections.source import Source, column
from lab.report.statistics import FEWEST
from lab.tracking.tags import Tag
from lab.wording import counted

__all__ = ["Overview", "overview"]

_FACTS = {
    "Data": "params.dataset",
    "Images": f"tags.{Tag.IMAGES}",
    "Device": f"tags.{Tag.DEVICE}",
    "lab": f"tags.{Tag.VERSION}",
    "torch": f"tags.{Tag.TORCH}",
}
_MOST_VALUES = 4  # of one fact


@dataclass(frozen=True)
class Overview:
    """What a study asked and found.

    Attributes:
        question: the description in its grid file; may be empty.
        verdict: the answer, in one sentence.
        facts: what is known of all of its runs, by heading.
        left_out: why trials are not part of the report; empty if all are.
    """

    question: str
    verdict: str
    facts: dict[str, str]
    left_out: str


def overview(source: Source) -> Overview:
    """Return what the study asked and found."""
    return Overview(_question(source), _verdict(source), _facts(source), _left_out(source))


def _question(source: Source) -> str:
    newest = source.found.newest
    return "" if newest is None or newest.grid is None else " ".join(newest.grid.description.split())


def _verdict(source: Source) -> str:
    finished, metric = source.sound, source.metric
    if source.trials.empty:
        return "No trial has started yet."
    if finished.empty:
        trials = f"{counted(len(source.trials), 'trial')} ({_outcomes(source)})"
        if not source.finished.empty:
            return f"There is no best cell: every one with a finite {metric} diverged, of {trials}."
        return f"Nothing can be said yet: {trials}, none of them with a finite {metric}."
    best = finished.iloc[0]
    value = formatted(metric, float(best["best_value"]))
    if len(finished) == 1:
        return (
            f"The only cell with a result, {best['name']}, reaches {metric} {value}{_spread(source, best)}."
        )
    which = f"{best['name']} is the best of {counted(len(finished), 'cell')}"
    return f"{which}: {metric} {value}{_spread(source, best)}; {_against_second(source)}."


def _spread(source: Source, row: pd.Series[Any]) -> str:
    if "n" not in row:
        return ""
    text = spread(source.metric, row)
    if not text or row["n"] == 2:
        return f" ({text})" if text else ""
    return f" (95 % interval {text}, n={row['n']})"


def _against_second(source: Source) -> str:
    """Return whether the best cell can be told apart from the second, paired by their repeats."""
    name = source.sound.iloc[1]["name"]
    first, second = (_by_repeat(source, place) for place in source.best(2))
    shared = first.index.intersection(second.index)
    if len(shared) < FEWEST:
        n = min(len(first), len(second))
        return f"with n={n} nobody can say whether it is really better than the second, {name}"
    pairs = str(shared[0]).partition("=")[0]
    found = difference([*first[shared]], [*second[shared]], pairs=pairs, metric=source.metric)
    if not found.is_clear:
        return f"it cannot be told apart from the second, {name} ({found.test}, {_p(found.p)})"
    return f"it is better than the second, {name} ({found.test}, {_p(found.p)})"


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _by_repeat(source: Source, place: int) -> pd.Series[float]:
    """Return the values of a cell by the names of its repeats, in their order of the leaderboard."""
    mine = source.trusted[source.cell_numbers == place].dropna()
    return mine.groupby(repeat_names(source.runs), sort=False).mean()


def _facts(source: Source) -> dict[str, str]:
    runs = source.runs
    if runs.empty:
        return {}
    found = {"Trials": f"{len(runs):,} in {counted(len(source.cells), 'cell')} ({_outcomes(source)})"}
    found["Imported from"] = source.trials.attrs["imported"]
    found |= {heading: _values(column(runs, name)) for heading, name in _FACTS.items()}
    first, last = runs["start_time"].min(), runs["end_time"].fillna(runs["start_time"]).max()
    found["When"] = " to ".join(dict.fromkeys((f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}")))
    return {heading: text for heading, text in found.items() if text}


def _outcomes(source: Source) -> str:
    return ", ".join(f"{count} {name}" for name, count in outcome_counts(source.trials["outcome"]).items())


def _values(values: pd.Series[str]) -> str:
    found = sorted({str(value) for value in values.dropna()})
    more = f" and {len(found) - _MOST_VALUES} more" if len(found) > _MOST_VALUES else ""
    return ", ".join(found[:_MOST_VALUES]) + more


def _left_out(source: Source) -> str:
    about, said = source.trials.attrs, []
    if about["left_out"]:
        settings = f" ({about['other']})" if about["other"] else ""
        said.append(
            f"{counted(about['left_out'], 'trial')} of earlier files or with other settings{settings}"
        )
    if about["orphans"]:
        said.append(f"{counted(about['orphans'], 'run')} that no trial of the study names")
    return f"Left out: {'; '.join(said)}." if said else ""
