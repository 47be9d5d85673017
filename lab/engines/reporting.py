"""Reports of studies as HTML files, and on the studies' runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab import page
from lab.engines.leaderboards import study_experiment
from lab.engines.stores import Stores
from lab.errors import ConfigError, LabError, TrackingError
from lab.files import check_folder, replacing
from lab.report import Report, Source, read_source, report_of
from lab.study import find_queue, run_ids
from lab.tracking import Tracker, connect

__all__ = ["write_report"]


def write_report(studies: Sequence[str], stores: Stores, out: Path) -> dict[str, str]:
    """Write the report of `studies` to the file `out`, and store that of each on its run.

    Returns:
        Why a study's report could not be stored on its run, by the study's name.

    Raises:
        ConfigError: the folder of `out` does not exist, or a study is named twice.
        StudyError: there is no such study.
        LabError: the file cannot be written, or a store fails.
    """
    _check(studies, out)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    sources = [_source(study, stores, tracker) for study in studies]
    report = report_of(sources, tracker)
    try:
        with replacing(out) as part:
            part.write_text(page.render_page(report), encoding="utf-8")
    except OSError as error:
        raise LabError(f"Writing {out} failed: {error.strerror}") from None
    return _kept(sources, report, tracker)


def _check(studies: Sequence[str], out: Path) -> None:
    twice = [study for study in dict.fromkeys(studies) if list(studies).count(study) > 1]
    if twice:
        raise ConfigError(
            f"Each study can be named once, but {twice[0]} is named {studies.count(twice[0])} times"
        )
    check_folder(out)
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file in it, such as {out / page.REPORT}")


def _source(study: str, stores: Stores, tracker: Tracker) -> Source:
    experiment = study_experiment(study, stores)
    queue = find_queue(stores.storage, study)
    return read_source(tracker, experiment, study, None if queue is None else run_ids(queue))


def _kept(sources: Sequence[Source], report: Report, tracker: Tracker) -> dict[str, str]:
    troubles = {}
    for source, study in zip(sources, report.studies, strict=True):
        try:
            page.log_report(tracker.attach(str(source.found.parent["run_id"])), Report((study,)))
        except TrackingError as error:
            troubles[source.study] = str(error)
    return troubles
