"""The trials of a study from best to worst, read from the tracker alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import pandas as pd

from lab.errors import TrackingError
from lab.report.repeats import by_cell, has_repeats
from lab.report.settings import NewestFile, differing, in_words, newest_file
from lab.report.trials import ranked, trial_frame
from lab.tracking import Tracker, pending_id
from lab.tracking.tags import Tag

__all__ = ["cells", "leaderboard"]

_MOST_OTHERS = 500  # runs of other settings that are looked at closely


def leaderboard(
    tracker: Tracker,
    experiment: str,
    *,
    study: str,
    metric: str = "best_value",
    top: int | None = None,
    repeats: Literal["mean", "each"] = "mean",
    of: Literal["newest", "all"] = "newest",
    named: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the trials of `study`, the best first; of a study with repeats its cells, by their means.

    They are those of the file that was planned last, with its `--set`; a try with other settings does not mix in.
    Where trials are shown that differ in settings which the file does not vary, each of these is a column too.

    The order is that of `lab.training.rank`: what diverged or has no finite value comes last; of equals the one
    with fewer parameters is first, then the trial's number decides. The highest accuracy and the lowest loss are
    the best; of any other `metric`, the study's direction says which end is.

    Args:
        tracker: where the runs are.
        experiment: id of the experiment.
        study: name of the study, as in the tag `lab.study`.
        metric: metric to rank by; its column is there even if it is none of those below.
        top: most rows to return.
        repeats: whether the repeats of a cell are one row or one each.
        of: `all` for the trials of earlier files and other settings too.
        named: ids of the runs that the study's trials name: others, of a study of this name that was deleted from
            its database, are left out. All runs count if None.

    Returns:
        Columns rank (from 1), name, a column for each parameter in which the trials differ (text), best_value,
        test_accuracy, best_epoch, epochs, params, seconds, accuracy_per_million_params, pareto (whether it is
        on the front of test accuracy and size), outcome and run_id. Missing values are NA.

        Of cells best_value, test_accuracy, seconds and what is computed of them are means over the repeats,
        of which those that diverged are left out unless all did, and best_epoch and epochs medians; ci95, n
        and best follow best_value (half of the mean's 95 % interval, NA for one; how many count; the best),
        test_ci95 follows test_accuracy, and run_id is the best repeat's.

        `attrs` has monitor (what best_value is a value of), metric, descending (whether its highest is the
        best), varied, ranges (those that a sampler chooses from a range), left_out (how many trials are not of the
        newest file), other (the settings of these, in words) and orphans (how many runs no trial names).

    Raises:
        TrackingError: the experiment has no such study, besides the store's own failures.
    """
    parent = _parent(tracker, experiment, study)
    # ties and what never finished are settled here, so the store may not cut the list by the metric alone
    runs = tracker.runs(experiment, tags={Tag.STUDY: study, Tag.KIND: "trial"})
    known = _in_order(runs if named is None else runs[_are_named(runs, named)])
    newest = newest_file(tracker, str(parent["run_id"]))
    frame = _board(known, newest, parent, metric, of)
    frame.attrs["orphans"] = len(runs) - len(known)
    frame = cells(frame) if repeats == "mean" else frame
    return frame.head(top if top is not None else len(frame))


def _board(
    runs: pd.DataFrame,
    newest: NewestFile | None,
    parent: pd.Series[str],
    metric: str,
    of: Literal["newest", "all"],
) -> pd.DataFrame:
    """Return `runs`, or those of the `newest` file, from best to worst, and about them what `parent` says."""
    varied: list[str] = json.loads(parent.get(f"tags.{Tag.VARIED}") or "[]")
    maximized = parent.get(f"tags.{Tag.DIRECTION}") != "minimize"
    mine = pd.Series(True, index=runs.index) if newest is None or runs.empty else newest.names(runs)
    others = [] if newest is None else newest.changes(runs[~mine].head(_MOST_OTHERS))
    shown = runs[mine] if of == "newest" else runs
    extra = _also_differing(shown, varied, others if of == "all" else [])
    trials = trial_frame(shown, [*varied, *extra], metric)
    trials["name"] = _longer(trials, extra)
    frame = ranked(trials, metric, _rises(metric, maximized))
    frame.attrs = {
        "monitor": parent.get(f"tags.{Tag.MONITOR}") or "val_accuracy",
        "metric": metric,
        "descending": _rises(metric, maximized),
        "maximized": maximized,
        "varied": [*varied, *extra],
        "ranges": [] if newest is None else newest.ranges,
        "left_out": len(runs) - len(shown),
        "other": in_words(others) if len(others) < _MOST_OTHERS else "",
    }
    return frame


def cells(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard of cells of one with a row for each trial; the same where nothing is repeated."""
    about = trials.attrs
    if not has_repeats(about["varied"]) or "seed" not in trials:
        return trials
    frame = by_cell(trials, about["varied"], descending=about["maximized"], monitor=about["monitor"])
    frame = ranked(frame, about["metric"], about["descending"])
    frame.attrs = about
    return frame


def _also_differing(
    runs: pd.DataFrame, varied: Sequence[str], changes: Iterable[Mapping[str, str] | None]
) -> list[str]:
    """Return the settings, beside `varied`, that tell `runs` apart; `changes` are known to."""
    known = (name for change in changes for name in change or {})
    return [name for name in dict.fromkeys((*differing(runs, varied), *known)) if name not in varied]


def _longer(trials: pd.DataFrame, settings: Sequence[str]) -> pd.Series[str]:
    """Return the names of `trials` with their `settings` in front, so that no two are called the same."""
    names = trials["name"]
    for setting in reversed(settings):
        values = trials[setting].fillna("none")
        names = f"{setting}=" + values.astype("str") + " " + names
    return names


def _are_named(runs: pd.DataFrame, named: Collection[str]) -> pd.Series[bool]:
    """Return which of `runs` a trial names, by the run's id or by the one it had while the store was away."""
    found = runs["run_id"].isin(list(named))
    if f"tags.{Tag.JOURNAL}" in runs:
        keys = runs[f"tags.{Tag.JOURNAL}"]
        found |= keys.map(lambda key: isinstance(key, str) and pending_id(key) in named).astype(bool)
    return found


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` by the number of their trials, and those without one by their age."""
    if f"tags.{Tag.TRIAL}" not in runs:
        return runs.iloc[::-1].reset_index(drop=True)
    numbers = pd.to_numeric(runs[f"tags.{Tag.TRIAL}"], errors="coerce")
    return (
        runs.assign(_number=numbers).iloc[::-1].sort_values("_number", kind="stable").reset_index(drop=True)
    )


def _rises(metric: str, maximized: bool) -> bool:
    """Return whether higher values of `metric` are better."""
    if metric.endswith(("loss", "accuracy")):
        return metric.endswith("accuracy")
    return maximized


def _parent(tracker: Tracker, experiment: str, study: str) -> pd.Series[str]:
    found = tracker.runs(experiment, tags={Tag.STUDY: study, Tag.KIND: "study"}, limit=1)
    if found.empty:
        raise TrackingError(
            f"There is no study '{study}' in the experiment {experiment} at {tracker.uri}. "
            "`lab status` lists the studies that there are."
        )
    return found.iloc[0]
