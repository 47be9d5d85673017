"""What the trials of a study, or of several, came to: read from its database and the tracking store together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from lab import report  # asked for what it has only when that is needed: scikit-learn and scipy take a second
from lab.config import Grid
from lab.engines.missing import MissingRuns
from lab.engines.stores import Stores
from lab.errors import LabError, StudyError
from lab.files import replacing
from lab.registry import suggest
from lab.study import TrialRecord, database_exists, find_queue, unknown_study
from lab.tracking import Reader, open_reader
from lab.tracking.tags import Tag

if TYPE_CHECKING:
    from lab.report import GridResults, StudyImportance, StudyRuns

__all__ = [
    "ImportantSettings",
    "StudyBoard",
    "StudyEffects",
    "StudyRead",
    "read_study",
    "study_board",
    "study_effects",
    "study_experiment",
    "study_importance",
    "write_results",
]


@dataclass(frozen=True)
class StudyBoard:
    """The leaderboard of a study, and how many of its cells have lost their runs.

    `frame` is that of `lab.report.leaderboard`, without its last `cut` rows; `deleted` counts cells that were trained
    and whose runs were deleted since; `trouble` is why that is not known, empty where it is.
    """

    study: str
    frame: pd.DataFrame
    cut: int
    deleted: int
    trouble: str = ""

    @property
    def best_run(self) -> str | None:
        """Id of the best run that has kept a model, None where there is none."""
        if self.frame.empty or self.frame.attrs["imported"]:
            return None
        outcomes = self.frame["outcome"]
        with_model = self.frame[outcomes.notna() & ~outcomes.isin(["failed", "killed"])]
        return None if with_model.empty else str(with_model["run_id"].iloc[0])


@dataclass(frozen=True)
class StudyEffects:
    """The marginal means of a study's values (see `lab.report.effects`), the trials they are of, and the metric."""

    table: pd.DataFrame
    trials: pd.DataFrame
    metric: str


def study_board(
    study: str,
    stores: Stores,
    metric: str = "best_value",
    *,
    top: int | None = None,
    repeats: Literal["mean", "each"] = "mean",
    of: Literal["newest", "all"] = "newest",
) -> StudyBoard:
    """Return the leaderboard of `study`; the arguments are those of `lab.report.leaderboard`.

    Raises:
        StudyError: there is no such study, or none of its trials has such a metric.
    """
    read, missing = read_study(study, stores, report.shown_metrics(metric)), MissingRuns(stores.tracking_uri)
    whole = read.board(metric, repeats=repeats, of=of)
    frame = whole.head(len(whole) if top is None else top)
    return StudyBoard(study, frame, len(whole) - len(frame), read.count_deleted(missing), missing.trouble)


def study_effects(
    study: str,
    stores: Stores,
    metric: str = "best_value",
    *,
    of: Literal["newest", "all"] = "newest",
) -> StudyEffects:
    """Return how the values of `study` compare; the arguments and errors are those of `study_board`."""
    trials = _trials(study, stores, metric, of)
    monitored = trials.attrs["monitor"] if metric == "best_value" else metric
    return StudyEffects(report.effects(trials, trials.attrs["varied"]), trials, monitored)


@dataclass(frozen=True)
class ImportantSettings:
    """The importance of a study's settings (see `lab.report.importance`), and the trials it is of."""

    importance: StudyImportance
    trials: pd.DataFrame


def study_importance(
    study: str,
    stores: Stores,
    metric: str = "best_value",
    *,
    of: Literal["newest", "all"] = "newest",
) -> ImportantSettings:
    """Return how important each dimension of `study` was; the arguments are those of `study_board`.

    Raises:
        StudyError: as `study_board`, or there are too few cells to compare.
    """
    trials = _trials(study, stores, metric, of)
    return ImportantSettings(report.importance(trials, trials.attrs["varied"]), trials)


def study_experiment(study: str, stores: Stores) -> str:
    """Return the id of the experiment of `study`.

    Raises:
        StudyError: there is no such study.
    """
    return _experiment(open_reader(stores.tracking_uri, stores.artifact_dir), study, stores)


@dataclass(frozen=True, eq=False)
class StudyRead:
    """A study as it was read once.

    Attributes:
        study: its name.
        found: its runs.
        newest: the newest trials of its cells; none of another database's study.
        logged: returns the names of all metrics that its runs log, which are read only for an error message.
    """

    study: str
    found: StudyRuns
    newest: Sequence[TrialRecord]
    logged: Callable[[], Sequence[str]]

    def board(
        self,
        metric: str = "best_value",
        *,
        repeats: Literal["mean", "each"] = "mean",
        of: Literal["newest", "all"] = "newest",
    ) -> pd.DataFrame:
        """Return the leaderboard; the arguments are those of `lab.report.leaderboard`.

        Raises:
            StudyError: no trial has such a metric.
        """
        frame = self.found.board(metric, repeats, of)
        if not frame.empty and frame[metric].isna().all():
            if metric == "best_value":
                monitor = frame.attrs.get("monitor", metric)
                ended = report.outcome_counts(self.found.board(metric, "each", of)["outcome"])
                outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in ended.items())
                raise StudyError(
                    f"No trial of {self.study} has a finite {monitor}: {outcomes}; `lab report {self.study}` shows how "
                    "each ended"
                )
            near = suggest(metric, self.logged()) or " Use best_value or any metric that its runs log"
            raise StudyError(f"No trial of {self.study} has a metric '{metric}' yet.{near}")
        return frame

    def count_deleted(self, missing: MissingRuns) -> int:
        """Return how many cells have ended and have lost their runs."""
        gone = missing(_run_ids(self.newest))
        ended = [one for one in self.newest if one.trial.state.is_finished() and not one.lacks_successor]
        return sum(one.run_id in gone for one in ended)


def read_study(study: str, stores: Stores, metrics: Collection[str] | None = None) -> StudyRead:
    """Read a study, without runs that none of its trials names.

    Args:
        study: its name.
        stores: where it is kept.
        metrics: names of the only ones to read, as `Reader.runs` takes them.

    Raises:
        StudyError: there is no such study.
    """
    reader = open_reader(stores.tracking_uri, stores.artifact_dir)
    experiment = _experiment(reader, study, stores)
    queue = find_queue(stores.storage, study)
    newest = [] if queue is None else list(queue.newest().values())
    named = None if queue is None else _run_ids(newest)

    def logged() -> list[str]:
        every = report.study_runs(reader, experiment, study, named).runs
        return [str(name).removeprefix("metrics.") for name in every if str(name).startswith("metrics.")]

    return StudyRead(study, report.study_runs(reader, experiment, study, named, metrics), newest, logged)


def _run_ids(newest: Sequence[TrialRecord]) -> set[str]:
    return {record.run_id for record in newest if record.run_id is not None}


def _trials(study: str, stores: Stores, metric: str, of: Literal["newest", "all"]) -> pd.DataFrame:
    return read_study(study, stores, report.shown_metrics(metric)).board(metric, repeats="each", of=of)


def write_results(
    grids: Sequence[Grid], stores: Stores, out: Path, generated_by: str
) -> tuple[list[str], list[str]]:
    """Write the results document of `grids` to `out`.

    A study without finished runs in these stores keeps the section that `out` has of it: its runs may be in others.
    Comments on a study are read from `results/NAME.md` in the document's folder; its runs are written to
    `results/NAME.csv` there.

    Args:
        grids: from `load_grid`.
        stores: with the runs of their studies.
        out: file to write, in Markdown.
        generated_by: the command that writes it.

    Returns:
        The names of the studies whose sections were kept, and of those that have none.

    Raises:
        LabError: the document cannot be written, or it or a comment not be read.
    """
    found = _results(grids, stores)
    folder = out.parent / "results"
    try:
        earlier = out.read_text(encoding="utf-8") if out.exists() else ""
        kept = _kept(grids, found, earlier)
        found = [None if grid.name in kept else results for grid, results in zip(grids, found, strict=True)]
        studies = [(grid, results or kept.get(grid.name)) for grid, results in zip(grids, found, strict=True)]
        text = report.results_document(studies, _comments(grids, folder), generated_by)
        folder.mkdir(parents=True, exist_ok=True)
        for results in filter(None, found):
            with replacing(folder / f"{results.grid.name}.csv") as part:
                report.raw_rows(results).to_csv(part, index=False, lineterminator="\n")
        with replacing(out) as part:
            part.write_text(text, encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LabError(f"{out} or a comment in {folder} is not text in UTF-8: {error}") from None
    except OSError as error:
        raise LabError(f"Writing {out} failed: {error}") from None
    return list(kept), [grid.name for grid, shown in studies if shown is None]


def _results(grids: Sequence[Grid], stores: Stores) -> list[GridResults | None]:
    if not database_exists(stores.tracking_uri):
        return [None] * len(grids)
    reader = open_reader(stores.tracking_uri, stores.artifact_dir)
    found: list[GridResults | None] = []
    for grid in grids:
        experiment = reader.find_experiment(grid.name)
        tags = {Tag.STUDY: grid.name, Tag.KIND: "trial"}
        found.append(report.grid_results(grid, reader.runs(experiment, tags=tags)) if experiment else None)
    return found


def _kept(
    grids: Sequence[Grid], found: Sequence[GridResults | None], earlier: str
) -> dict[str, report.Published]:
    """Return what an earlier document says about the studies of which none of the runs found has finished, by name."""
    sections = {
        grid.name: report.published(earlier, grid.name)
        for grid, results in zip(grids, found, strict=True)
        if results is None or not results.has_finished
    }
    return {name: section for name, section in sections.items() if section is not None}


def _comments(grids: Sequence[Grid], folder: Path) -> dict[str, str]:
    files = {grid.name: folder / f"{grid.name}.md" for grid in grids}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.exists()}


def _experiment(reader: Reader, study: str, stores: Stores) -> str:
    found = reader.find_experiment(study) if database_exists(stores.tracking_uri) else None
    if found is None:
        raise unknown_study(stores.storage, study)
    return found
