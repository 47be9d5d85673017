"""The leaderboard of a study: its trials or its cells from best to worst, read from the tracker alone.

Columns: rank (from 1), name, one for each parameter in which the trials differ (text; `params.NAME` if another column
is called NAME), best_value, test_accuracy, test_NAME for each of the trials' `metrics`, best_epoch, epochs, params,
seconds, accuracy_per_million_params, pareto (whether it is on the Pareto front of test accuracy and size), outcome and
run_id. Missing values are NA.

For cells, best_value, test_accuracy, seconds and what is computed from them are means over the repeats (other seeds,
other folds), without those that diverged unless all did; best_epoch and epochs are medians. ci95_low and ci95_high (the
ends of the mean's 95 % interval, NA for fewer than three repeats), n (the number of repeats averaged), best and worst
follow best_value, the same with `test_` follow test_accuracy, and run_id is that of the best repeat.

`attrs` of a leaderboard has monitor (the metric that best_value is a value of), metric (ranked by), descending (whether
its highest value is the best), maximized (the study's direction), varied (the columns of the parameters that differ),
ranges (those from which a sampler chooses, by column, as plain values), left_out (the number of trials not from
the newest file), other (the settings of these, in words), orphans (the number of runs that no trial names) and imported
(where the runs of another program are from, else empty).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lab.config import rises
from lab.errors import TrackingError
from lab.report.repeats import averaged_over, by_cell, has_repeats
from lab.report.settings import NewestFile, differing, in_words, newest_file
from lab.report.trials import COUNTS, MEANS, dimension_columns, ranked, trial_frame
from lab.tracking import Reader, pending_id
from lab.tracking.tags import Tag

__all__ = ["StudyRuns", "cells", "leaderboard", "shown_metrics", "study_runs"]

_MOST_OTHERS = 500  # runs with other settings whose differences are worked out


def leaderboard(
    tracker: Reader,
    experiment: str,
    *,
    study: str,
    metric: str = "best_value",
    top: int | None = None,
    repeats: Literal["mean", "each"] = "mean",
    of: Literal["newest", "all"] = "newest",
    named: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the leaderboard of `study`: its trials, or the means of its cells if it repeats them; the best first.

    It has the trials of the file that was planned last, with its `--set`; a trial with other settings does not mix in.
    If the trials shown differ in settings that the file does not vary, each of these is a column too.

    The order is that of `lab.training.rank`: what diverged or has no finite value comes last; of equals the one with
    fewer parameters comes first, then the trial's number decides. The highest accuracy and the lowest loss are the
    best; for any other `metric`, the study's direction decides.

    Args:
        tracker: where the runs are.
        experiment: id of the experiment.
        study: name of the study, as in the tag `lab.study`.
        metric: metric to rank by; it is always a column.
        top: maximum number of rows.
        repeats: whether the repeats of a cell are averaged in one row or have a row each.
        of: `all` includes the trials of earlier files and other settings.
        named: ids of the runs that the study's trials name. Others, left by a deleted study of the same name, are
            excluded. All runs count if None.

    Raises:
        TrackingError: the experiment has no such study, or the store fails.
    """
    found = study_runs(tracker, experiment, study, named, shown_metrics(metric))
    frame = found.board(metric, repeats, of)
    return frame.head(len(frame) if top is None else top)


def shown_metrics(metric: str) -> tuple[str, ...]:
    """Return the metrics that a leaderboard ranked by `metric` is made from, as `Reader.runs` takes them."""
    return (*MEANS, *COUNTS, "test_*", metric)


@dataclass(frozen=True, eq=False)
class StudyRuns:
    """The runs of a study.

    Attributes:
        parent: the study's own run, a row from `Tracker.runs`.
        runs: those of its trials, by number.
        newest: the file that was planned last; None for a study of an earlier version.
        orphans: number of runs that no trial names.
    """

    parent: pd.Series[str]
    runs: pd.DataFrame
    newest: NewestFile | None
    orphans: int

    def board(
        self,
        metric: str = "best_value",
        repeats: Literal["mean", "each"] = "mean",
        of: Literal["newest", "all"] = "newest",
    ) -> pd.DataFrame:
        """Return the leaderboard of these runs: see `leaderboard`."""
        frame = _board(self.runs, self.newest, self.parent, metric, of)
        frame.attrs["orphans"] = self.orphans
        return cells(frame) if repeats == "mean" else frame


def study_runs(
    tracker: Reader,
    experiment: str,
    study: str,
    named: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
) -> StudyRuns:
    """Return the runs of `study`; the arguments and errors are those of `leaderboard` and of `Reader.runs`."""
    parent = _parent(tracker, experiment, study)
    # ties and unfinished trials are ordered later, so the store must not cut the list by the metric alone
    runs = tracker.runs(experiment, tags={Tag.STUDY: study, Tag.KIND: "trial"}, metrics=metrics)
    known = _in_order(runs if named is None else runs[_are_named(runs, named)])
    return StudyRuns(parent, known, newest_file(tracker, str(parent["run_id"])), len(runs) - len(known))


def _board(
    runs: pd.DataFrame,
    newest: NewestFile | None,
    parent: pd.Series[str],
    metric: str,
    of: Literal["newest", "all"],
) -> pd.DataFrame:
    """Return `runs`, or those of the `newest` file, from best to worst, with the `attrs` that `parent` tells."""
    varied: list[str] = json.loads(parent.get(f"tags.{Tag.VARIED}") or "[]")
    maximized = parent.get(f"tags.{Tag.DIRECTION}") != "minimize"
    mine = pd.Series(True, index=runs.index) if newest is None or runs.empty else newest.names(runs)
    others = [] if newest is None else newest.changes(runs[~mine].head(_MOST_OTHERS))
    shown = runs[mine] if of == "newest" else runs
    extra = _also_differing(shown, varied, others if of == "all" else [])
    columns = dimension_columns(shown, [*varied, *extra], metric)
    trials = trial_frame(shown, [*columns], metric)
    trials["name"] = _longer(trials, {name: columns[name] for name in extra})
    frame = ranked(trials, metric, _rises(metric, maximized))
    ranges = {} if newest is None else newest.ranges
    frame.attrs = {
        "monitor": parent.get(f"tags.{Tag.MONITOR}") or "val_accuracy",
        "metric": metric,
        "descending": _rises(metric, maximized),
        "maximized": maximized,
        "varied": [*columns.values()],
        "ranges": {columns.get(name, name): one for name, one in ranges.items()},
        "left_out": len(runs) - len(shown),
        "other": in_words(others) if len(others) < _MOST_OTHERS else "",
        "imported": parent.get(f"tags.{Tag.IMPORTED}") or "",
    }
    return frame


def cells(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard of cells for one with a row for each trial; unchanged if nothing is repeated."""
    about = trials.attrs
    if not has_repeats(about["varied"]) or trials.columns.intersection(averaged_over(about["varied"])).empty:
        return trials
    frame = by_cell(trials, about["varied"], descending=about["maximized"], monitor=about["monitor"])
    frame["name"] = frame["name"].replace("", "all folds")
    frame = ranked(frame, about["metric"], about["descending"])
    frame.attrs = about
    return frame


def _also_differing(
    runs: pd.DataFrame, varied: Sequence[str], changes: Iterable[Mapping[str, str] | None]
) -> list[str]:
    """Return the settings, apart from `varied`, in which `runs` differ; those in `changes` are known to."""
    known = (name for change in changes for name in change or {})
    return [name for name in dict.fromkeys((*differing(runs, varied), *known)) if name not in varied]


def _longer(trials: pd.DataFrame, settings: Mapping[str, str]) -> pd.Series[str]:
    """Return the names of `trials` with the `settings`, which have these columns, before them: no two are the same."""
    names = trials["name"]
    for setting in reversed([*settings]):
        values = trials[settings[setting]].fillna("none")
        names = f"{setting}=" + values.astype("str") + " " + names
    return names


def _are_named(runs: pd.DataFrame, named: Collection[str]) -> pd.Series[bool]:
    """Return which of `runs` a trial names, by the run's id or by its id from while the store was unreachable."""
    found = runs["run_id"].isin(list(named))
    if f"tags.{Tag.JOURNAL}" in runs:
        keys = runs[f"tags.{Tag.JOURNAL}"]
        found |= keys.map(lambda key: isinstance(key, str) and pending_id(key) in named).astype(bool)
    return found


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` ordered by trial number; those without one come last, by age."""
    if f"tags.{Tag.TRIAL}" not in runs:
        return runs.iloc[::-1].reset_index(drop=True)
    numbers = pd.to_numeric(runs[f"tags.{Tag.TRIAL}"], errors="coerce")
    return (
        runs.assign(_number=numbers).iloc[::-1].sort_values("_number", kind="stable").reset_index(drop=True)
    )


def _rises(metric: str, maximized: bool) -> bool:
    """Return whether higher values of `metric` are better."""
    said = rises(metric)
    return maximized if said is None else said


def _parent(tracker: Reader, experiment: str, study: str) -> pd.Series[str]:
    found = tracker.runs(experiment, tags={Tag.STUDY: study, Tag.KIND: "study"}, limit=1)
    if found.empty:
        raise TrackingError(
            f"There is no study '{study}' in the experiment {experiment} at {tracker.uri}. "
            "`lab status` lists all studies."
        )
    return found.iloc[0]
