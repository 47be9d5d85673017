"""Do the claims of a report hold here? Each is judged by the test accuracy of the study's own runs.

Every claim says that something lies in a region: a difference above zero or within a margin, an accuracy below a bound.
It holds if the 95 % interval lies inside the region, it does not if the interval lies outside, and otherwise it cannot
be told. For a margin this is the test of equivalence by two one-sided tests (Schuirmann 1987, J. Pharmacokinet.
Biopharm. 15, 657), each at 2.5 %. A claim of several comparisons or cells holds only if it holds for each of them,
which needs no correction (Berger 1982, Technometrics 24, 295). A single one can refute it, after Holm's correction of
the tests against the nearest end of the region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import pandas as pd
from scipy.special import logit, stdtr, stdtrit

from lab.config import Claim, Grid, Selection
from lab.errors import StudyError
from lab.report.comparison import Paired, Side, paired
from lab.report.differences import Difference, corrected, difference, holm
from lab.report.render import formatted, spread
from lab.report.repeats import REPEATING
from lab.report.statistics import FEWEST, accuracy_interval
from lab.tracking.tags import Tag
from lab.wording import counted

__all__ = ["Finding", "JudgedClaim", "Verdict", "judge", "not_run"]

_METRIC: Final = "test_accuracy"
_LEVEL: Final = 0.95
_NOT_ENDED: Final = ("failed", "killed")  # outcomes that say nothing about training

Region = tuple[float, float]


class Verdict(StrEnum):
    """Whether a claim holds."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "cannot be told"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Finding:
    """What one comparison, or one cell, says about a claim, in words.

    `room` is how far the interval lies within the region of the claim (negative: how far it leaves it), in fractions;
    NaN if there is none.
    """

    verdict: Verdict
    cells: str
    effect: str = ""
    interval: str = ""
    n: str = ""
    room: float = math.nan


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its verdict: `finding` is the one of the `findings` that decides; None if nothing was run."""

    claim: Claim
    verdict: Verdict
    finding: Finding | None
    findings: int


def judge(
    claim: Claim,
    grid: Grid,
    runs: Callable[[Selection], pd.DataFrame],
    cells: Callable[[pd.DataFrame], pd.DataFrame],
) -> JudgedClaim:
    """Judge a claim.

    Args:
        claim: one of those of `grid`.
        grid: the grid file.
        runs: returns the runs that a selection chooses, as from `Tracker.runs`.
        cells: returns the cells of runs, with the columns of `leaderboard`.
    """
    chosen = runs(claim.cells)
    if claim.says == "outcome":
        findings = [_outcome(claim, chosen)]
    elif claim.says == "below":
        findings = [*_below(claim, cells(chosen))] if len(chosen) else []
    else:
        others = [_others(grid, a, b) for a, b in claim.pairs]
        found = [_paired(runs(a), runs(b), names) for (a, b), names in zip(claim.pairs, others, strict=True)]
        findings = _differences(claim, found)
    return _judged(claim, findings)


def not_run(claim: Claim) -> JudgedClaim:
    """Return a claim about a grid that was not run."""
    return JudgedClaim(claim, Verdict.NOT_RUN, None, 0)


def _judged(claim: Claim, findings: Sequence[Finding]) -> JudgedClaim:
    verdicts = [finding.verdict for finding in findings]
    if set(verdicts) <= {Verdict.NOT_RUN}:
        return not_run(claim)
    verdict = Verdict.UNKNOWN
    if Verdict.NO in verdicts:
        verdict = Verdict.NO
    elif set(verdicts) == {Verdict.YES}:
        verdict = Verdict.YES
    decisive = [found for found in findings if found.verdict == verdict] or findings
    finding = min(decisive, key=lambda found: -math.inf if math.isnan(found.room) else found.room)
    return JudgedClaim(claim, verdict, finding, len(findings))


def _region(claim: Claim) -> Region:
    """Return where the differences, A minus B, or the accuracies lie if `claim` is true."""
    lowest = {"same_as": -claim.limit, "no_better_than": -math.inf, "below": -math.inf}
    return (lowest[claim.says], claim.limit) if claim.says in lowest else (0.0, math.inf)


def _others(grid: Grid, a: Selection, b: Selection) -> list[str]:
    """Return the dimensions that neither side is about, so that cells are paired by their values."""
    keys = {key for side in (a, b) for key, _ in side.clauses}
    dimensions = (one for one in grid.space.dimensions if one.name not in REPEATING)
    return [one.name for one in dimensions if keys.isdisjoint((one.name, *one.fields))]


def _paired(a: pd.DataFrame, b: pd.DataFrame, others: Iterable[str]) -> Paired | Verdict:
    if a.empty or b.empty:
        return Verdict.NOT_RUN
    for column in (f"params.{name}" for name in others):
        if all(column in side and side[column].notna().any() for side in (a, b)):
            a, b = a[a[column].isin(b[column])], b[b[column].isin(a[column])]
    first, second = (Side("", side, _METRIC, True) for side in (a, b))
    try:
        return paired(first, second, _METRIC) or Verdict.UNKNOWN
    except StudyError:  # one side has no finished run of these cells
        return Verdict.UNKNOWN


def _differences(claim: Claim, found: Sequence[Paired | Verdict]) -> list[Finding]:
    names, region = [f"{a} against {b}" for a, b in claim.pairs], _region(claim)
    strict = iter(corrected([_from_end(one.whole, region) for one in found if isinstance(one, Paired)]))
    return [
        _difference(name, one, next(strict), region) if isinstance(one, Paired) else Finding(one, name)
        for name, one in zip(names, found, strict=True)
    ]


def _from_end(whole: Difference, region: Region) -> Difference:
    """Return how far a difference is from the nearest end of the region: its test is whether it lies there."""
    end = min(filter(math.isfinite, region), key=lambda end: abs(whole.value - end))
    return difference([value - end for value in whole.a], whole.b, pairs=whole.pairs) if end else whole


def _difference(cells: str, found: Paired, strict: Difference, region: Region) -> Finding:
    """Return what a difference says; `strict` is `_from_end`, corrected for the number of comparisons."""
    whole = found.whole
    verdict = _verdict(whole.low, whole.high, region)
    # where the region ends at zero, the test must agree with the interval
    is_sure = strict.is_clear if verdict is Verdict.NO else region[0] != 0 or whole.is_clear
    return Finding(
        verdict if is_sure else Verdict.UNKNOWN,
        cells,
        f"{whole.value * 100:+.2f}",
        _values(whole) if math.isnan(whole.low) else f"{whole.low * 100:+.2f} to {whole.high * 100:+.2f}",
        _count(found),
        _room(whole.low, whole.high, region),
    )


def _values(whole: Difference) -> str:
    """Return the values of both sides, of which there are too few for an interval."""
    return " against ".join(", ".join(formatted(_METRIC, one) for one in side) for side in (whole.a, whole.b))


def _count(found: Paired) -> str:
    whole = found.whole
    if whole.pairs:
        text = counted(len(whole.a), whole.pairs)
    else:
        text = f"{len(whole.a)} and {counted(len(whole.b), 'repeat')}"
    if found.shared > 1 and whole.pairs != "cell":
        text += f" of {'' if found.compared == found.shared else f'{found.compared} of '}{found.shared} cells"
    return text + (f", {counted(found.left_out, 'run')} left out" if found.left_out else "")


def _below(claim: Claim, cells: pd.DataFrame) -> Iterator[Finding]:
    rows = [row for _, row in cells[cells[_METRIC].notna()].iterrows()]
    ends = [_ends(row) for row in rows]
    chances = [_chance(claim.limit, *each, row["test_n"]) for row, each in zip(rows, ends, strict=True)]
    strict = iter(holm([p for p in chances if not math.isnan(p)]))
    for row, (low, high), chance in zip(rows, ends, chances, strict=True):
        verdict = _verdict(low, high, _region(claim))
        is_sure = math.isnan(chance) or next(strict) < 1 - _LEVEL or verdict is not Verdict.NO
        yield Finding(
            verdict if is_sure else Verdict.UNKNOWN,
            str(row["name"]),
            formatted(_METRIC, row[_METRIC]),
            spread(_METRIC, row, "test_"),
            counted(int(row["test_n"]), "repeat"),
            _room(low, high, _region(claim)),
        )


def _ends(row: pd.Series[Any]) -> tuple[float, float]:
    """Return the ends of the interval of a cell's test accuracy, which are its value if all repeats have the same."""
    if row["test_n"] >= FEWEST and row["test_best"] == row["test_worst"]:  # all learnt as little, say
        return row[_METRIC], row[_METRIC]
    return row["test_ci95_low"], row["test_ci95_high"]


def _chance(accuracy: float, low: float, high: float, n: int) -> float:
    """Return p of a mean of `n` with this 95 % interval if the true one were `accuracy`, by Student's t on its scale.

    It is NaN if there is no interval, and 0 if no value differs.
    """
    if low == high:
        return 0.0
    first, last = logit(low), logit(high)
    error = (last - first) / 2 / stdtrit(n - 1, (1 + _LEVEL) / 2)
    return float(2 * stdtr(n - 1, -abs((first + last) / 2 - logit(accuracy)) / error))


def _outcome(claim: Claim, runs: pd.DataFrame) -> Finding:
    """Return how many of the runs ended so: all of them must, and three or more must have ended."""
    cells = str(claim.cells) or "all cells"
    if runs.empty:
        return Finding(Verdict.NOT_RUN, cells)
    column: pd.Series[Any] = runs.get(
        f"tags.{Tag.OUTCOME}", pd.Series(None, index=runs.index, dtype="object")
    )
    ended = column[column.notna() & ~column.isin(_NOT_ENDED)]
    so, n = int((ended == claim.outcome).sum()), len(ended)
    if n < FEWEST:
        return Finding(Verdict.UNKNOWN, cells, f"{so} of {n}", n=counted(n, "run"))
    low, high = accuracy_interval(so, n)
    verdict = Verdict.YES if so == n else Verdict.NO
    return Finding(verdict, cells, f"{so} of {n}", f"{low:.0%} to {high:.0%}", counted(n, "run"))


def _verdict(low: float, high: float, region: Region) -> Verdict:
    if region[0] < low and high < region[1]:
        return Verdict.YES
    return Verdict.NO if high < region[0] or region[1] < low else Verdict.UNKNOWN


def _room(low: float, high: float, region: Region) -> float:
    return min(low - region[0], region[1] - high)
