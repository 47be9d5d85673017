"""Trials that did not end well, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from lab.report.sections.source import Source, column
from lab.tracking.tags import Tag

__all__ = ["Failure", "failures"]

_WELL = frozenset({"completed", "early_stopped"})
_WHY = {
    "diverged": "the loss was no longer finite, or exploded",
    "not_converged": "it never did better than always predicting the most common class",
    "pruned": "the pruner ended it early",
    "killed": "it was stopped before its end",
    "failed": "no reason was logged",
    "unfinished": "it is still running, or its worker died",
}
_LONGEST = 300  # characters of a reason


@dataclass(frozen=True)
class Failure:
    """An outcome and its reason: the names of the trials that ended so, and the ids of their runs."""

    outcome: str
    reason: str
    names: tuple[str, ...]
    run_ids: tuple[str, ...]


def failures(source: Source) -> tuple[Failure, ...]:
    """Return the trials that did not end well, by outcome and reason, the most frequent first."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for outcome, reason, name, run_id in _ended_badly(source):
        found.setdefault((outcome, reason), []).append((name, run_id))
    every = (
        Failure(outcome, reason, *(tuple(each) for each in zip(*trials, strict=True)))
        for (outcome, reason), trials in found.items()
    )
    return tuple(sorted(every, key=lambda failure: -len(failure.names)))


def _ended_badly(source: Source) -> Iterator[tuple[str, str, str, str]]:
    trials, errors = source.trials, column(source.runs, f"tags.{Tag.ERROR}")
    rows = zip(trials["outcome"], errors, trials["name"], trials["run_id"], strict=True)
    for outcome, error, name, run_id in rows:
        ended = "unfinished" if pd.isna(outcome) else str(outcome)
        if ended not in _WELL:
            text = " ".join(str(error).split()) if isinstance(error, str) else _WHY.get(ended, "")
            yield ended, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…", str(name), str(run_id)
