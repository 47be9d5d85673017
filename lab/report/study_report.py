"""The report of a study, or of several, as plain values: `lab.page` makes a page of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lab.report.leaderboard import study_runs
from lab.report.sections.board import Board, board
from lab.report.sections.commands import Command, commands
from lab.report.sections.common import Common, common
from lab.report.sections.cost import Cost, cost
from lab.report.sections.curves import Curves, curves
from lab.report.sections.failures import Failure, failures
from lab.report.sections.mattered import Mattered, mattered
from lab.report.sections.mistakes import Mistakes, mistakes
from lab.report.sections.overview import Overview, overview
from lab.report.sections.parallel import Parallel, parallel
from lab.report.sections.slices import Slices, slices
from lab.report.sections.source import Source
from lab.report.sections.tradeoffs import Tradeoff, tradeoffs
from lab.tracking import Reader, Tracker

__all__ = ["Report", "StudyReport", "read_source", "report_of"]


@dataclass(frozen=True)
class StudyReport:
    """The sections of one study's report, and the metric that its trials are ranked by."""

    study: str
    metric: str
    overview: Overview
    board: Board
    mattered: Mattered
    parallel: Parallel
    slices: Slices
    curves: Curves
    tradeoffs: tuple[Tradeoff, ...]
    mistakes: Mistakes | None
    failures: tuple[Failure, ...]
    cost: Cost
    commands: tuple[Command, ...]


@dataclass(frozen=True)
class Report:
    """The reports of some studies; with more than one, what they have in common."""

    studies: tuple[StudyReport, ...]
    common: Common | None = None


def read_source(tracker: Reader, experiment: str, study: str, named: Collection[str] | None = None) -> Source:
    """Return what the sections of a study's report are made from; the arguments are those of `leaderboard`.

    Raises:
        TrackingError: the experiment has no such study, or the store fails.
    """
    return Source(study, study_runs(tracker, experiment, study, named))


def report_of(sources: Sequence[Source], tracker: Tracker, *, quick: bool = False) -> Report:
    """Return the report of one study or of several; if `quick`, without what takes seconds.

    Raises:
        TrackingError: the store fails.
    """
    studies = tuple(_study_report(source, tracker, quick) for source in sources)
    return Report(studies, common(sources) if len(sources) > 1 else None)


def _study_report(source: Source, tracker: Tracker, quick: bool) -> StudyReport:
    found = mattered(source, quick=quick)
    order = [each.name for each in found.found.dimensions] if found.found else []
    return StudyReport(
        study=source.study,
        metric=source.metric,
        overview=overview(source),
        board=board(source),
        mattered=found,
        parallel=parallel(source),
        slices=slices(source, order),
        curves=curves(source, tracker),
        tradeoffs=tradeoffs(source),
        mistakes=mistakes(source, tracker),
        failures=failures(source),
        cost=cost(source, tracker),
        commands=commands(source),
    )
