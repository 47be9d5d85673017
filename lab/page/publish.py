"""Keeps a study's report with its run, where the MLflow UI shows it."""

from __future__ import annotations

import logging
from typing import Final

from lab.errors import TrackingError
from lab.page.render import render_page
from lab.report import Report, Source, report_of
from lab.tracking import Run, Tracker

__all__ = ["REPORT", "log_report", "log_report_if_quick"]

#: The artifact of a study's run.
REPORT: Final = "report.html"

_LOGGER = logging.getLogger(__name__)
_MOST_TRIALS = 2000  # of a report that takes less than two seconds


def log_report(run: Run, report: Report) -> None:
    """Store a report as an artifact of the study's `run`.

    Raises:
        TrackingError: it cannot be stored.
    """
    run.log_text(render_page(report), REPORT)


def log_report_if_quick(run: Run, source: Source, tracker: Tracker) -> None:
    """Store the report of a study on its `run`, unless it has so many trials that it takes longer than two seconds.

    A report that cannot be made does not fail the study: a warning says why.

    Raises:
        TrackingError: the store fails.
    """
    if len(source.trials) > _MOST_TRIALS:
        run.delete_file(REPORT)  # of fewer trials, and so out of date
        return
    try:
        log_report(run, report_of([source], tracker, quick=True))
    except TrackingError:
        raise
    except Exception as error:  # noqa: BLE001  # the trials are done, whatever is wrong with their values
        _LOGGER.warning("%s was not made: %s: %s", REPORT, type(error).__name__, error)
