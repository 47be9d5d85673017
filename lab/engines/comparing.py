"""Studies, their cells and runs found by what a user typed, and compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lab import report
from lab.config import as_text, parse_value
from lab.engines.leaderboards import read_study
from lab.engines.stores import Stores
from lab.errors import ConfigError, LabError, StudyError, TrackingError
from lab.registry import suggest
from lab.report import Comparison, RunDifference, Side
from lab.restore import find_run
from lab.study import database_exists, unknown_study
from lab.tracking import Tracker, connect, run_frame
from lab.tracking.tags import Tag

__all__ = ["Compared", "compare", "diff_runs"]

_RUN = re.compile(r"[0-9a-f]{4,32}")
_ORIGINS = ("best:", "models:/", "runs:/")
_HASH = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True)
class Compared:
    """A comparison, and the experiments of the best run of each side."""

    found: Comparison
    experiments: tuple[str, str]


def compare(a: str, b: str, stores: Stores, metric: str = "best_value") -> Compared:
    """Compare what `a` and `b` name: see `lab.report.compare`.

    Args:
        a: a study (`quickstart`), some of its cells (`quickstart:lr=0.01,depth=3`, or `quickstart:3f2c9a`, the start of
            a cell's hash), or a run as `lab.restore.find_run` takes it.
        b: the same.
        stores: where they are.
        metric: that the runs log once.

    Raises:
        LabError: there is no such study, cell or run; or they cannot be compared.
    """
    tracker = _tracker(a, stores)
    first, second = (_side(name, tracker, stores, metric) for name in (a, b))
    found = report.compare(tracker, first, second, metric)
    one, other = (tracker.experiment_of(run_id) for run_id in found.best_runs)
    return Compared(found, (one, other))


def diff_runs(a: str, b: str, stores: Stores) -> RunDifference:
    """Return what differs between two runs, each as `lab.restore.find_run` takes it.

    Raises:
        TrackingError: there is no such run, both are the same, or the store fails.
    """
    tracker = _tracker(a, stores)
    first, second = (find_run(tracker, name) for name in (a, b))
    if first == second:
        raise TrackingError(f"{a} and {b} are the same run, {first}")
    return report.run_difference(tracker, first, second)


def _tracker(name: str, stores: Stores) -> Tracker:
    if not database_exists(stores.tracking_uri):
        raise TrackingError(f"There is no study or run {name}: {stores.tracking_uri} does not exist")
    return connect(stores.tracking_uri, stores.artifact_dir)


def _side(name: str, tracker: Tracker, stores: Stores, metric: str) -> Side:
    study, colon, cells = name.partition(":")
    if not name.startswith(_ORIGINS) and tracker.find_experiment(study) is not None:
        return _of_study(name, study, cells if colon else None, stores, metric)
    if not name.startswith(_ORIGINS) and not _RUN.fullmatch(name):
        raise unknown_study(stores.storage, study)
    return _of_run(name, tracker)


def _of_run(name: str, tracker: Tracker) -> Side:
    record = tracker.record(find_run(tracker, name))
    if Tag.KIND not in record.tags:
        raise TrackingError(f"Run {record.run_id} was not started by lab")
    monitor = record.params.get("monitor", "val_accuracy")
    return Side(name, run_frame([record]), monitor, record.params.get("mode", "max") == "max")


def _of_study(name: str, study: str, cells: str | None, stores: Stores, metric: str) -> Side:
    read = read_study(study, stores)
    board = read.board(metric, repeats="each")
    if board.empty:
        raise StudyError(f"{name} has no finished trial yet")
    runs = read.found.runs.iloc[::-1]  # the newest first, as a reader has them
    runs = runs[runs["run_id"].isin(board["run_id"])].reset_index(drop=True)
    if cells is not None:
        runs = _chosen(name, cells, runs, [report.setting_of(column) for column in board.attrs["varied"]])
    return Side(name, runs, board.attrs["monitor"], board.attrs["maximized"])


def _chosen(name: str, cells: str, runs: pd.DataFrame, varied: list[str]) -> pd.DataFrame:
    """Return the runs of the cells that the part of `name` after the colon selects."""
    if _HASH.fullmatch(cells):
        found = _of_hash(cells, runs, varied)
    else:
        found = runs[_matches(name, _settings(name, cells), runs)]
    if found.empty:
        raise StudyError(f"No trial of the study has a cell {cells!r}, as {name} says")
    return found.reset_index(drop=True)


def _of_hash(beginning: str, runs: pd.DataFrame, varied: list[str]) -> pd.DataFrame:
    """Return the runs of the cell whose hash begins so, with all of its repeats."""
    hashes = runs[f"tags.{Tag.CELL}"].astype("str")
    mine = runs[hashes.str.startswith(beginning)]
    keys = [f"params.{name}" for name in varied if name not in ("seed", "fold") and f"params.{name}" in runs]
    if mine[keys].drop_duplicates().shape[0] > 1:
        raise StudyError(
            f"The hashes of several cells begin with {beginning}: {', '.join(sorted(mine[f'tags.{Tag.CELL}'])[:5])}"
        )
    return runs if not keys else runs.merge(mine[keys].drop_duplicates(), on=keys)


def _settings(name: str, cells: str) -> dict[str, str]:
    """Return the settings in `lr=0.01,filters=6,16`: a part without `=` belongs to the value before."""
    found: dict[str, str] = {}
    key = ""
    for part in cells.split(","):
        if "=" in part:
            key, _, value = part.partition("=")
            key = key.strip()
            found[key] = value.strip()
        elif key:
            found[key] += f",{part.strip()}"
        else:
            raise ConfigError(
                f"{name} must be STUDY:SETTING=VALUE,… such as quickstart:lr=0.01,depth=3, or STUDY:HASH with the start"
                f" of a cell's hash, but got {cells!r}"
            )
    return found


def _matches(name: str, settings: Mapping[str, str], runs: pd.DataFrame) -> pd.Series[bool]:
    known = [str(column).removeprefix("params.") for column in runs if str(column).startswith("params.")]
    chosen = pd.Series(True, index=runs.index)
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"{name}: the trials have no setting '{key}'.{suggest(key, known)}")
        texts = runs[f"params.{key}"]
        matching = texts.isin([value, _canonical(key, value)])
        if not matching.any():
            values = ", ".join(sorted(texts.dropna().unique())[:10])
            raise ConfigError(f"{name}: no trial has {key}={value}; there is {values or 'none with a value'}")
        chosen &= matching
    return chosen


def _canonical(key: str, value: str) -> str:
    """Return a value as runs have it: `0.001` for `1e-3`; unchanged if it is the label of a variant."""
    try:
        return as_text(parse_value(key, value))
    except LabError:
        return value
