"""Runs that other programs have made, kept as those of a study that can be read and not be trained."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from lab.config import in_percent
from lab.errors import ConfigError, TrackingError
from lab.registry import suggest
from lab.tracking.base import RunStatus, Tracker
from lab.tracking.run import Run
from lab.tracking.tags import Tag
from lab.wording import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ForeignRun", "ForeignStudy", "as_shares", "content_keys", "keep_foreign"]

_BY_CONTENT: Final = "content:"  # how the keys begin that are made from what a run has

_WHOLE: Final = 1 + 1e-6  # the mean of float32 numbers may be a little above 1
_UNNAMEABLE: Final = re.compile(r"[^\w\-. :/]")  # what MLflow takes in no name
_ENDED: Final = {"failed": RunStatus.FAILED, "killed": RunStatus.KILLED, "pruned": RunStatus.KILLED}


@dataclass(frozen=True)
class ForeignRun:
    """A run as another program has it.

    Attributes:
        key: what tells it from all others of its source; `content_keys` makes one where the source has none.
        name: for people.
        params: its settings, as text.
        metrics: the last, or the only, value of each metric.
        curves: values by step.
        outcome: how it ended, in lab's words.
        began: in milliseconds since 1970, None if that is not known.
        ended: likewise.
    """

    key: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    outcome: str = "completed"
    began: int | None = None
    ended: int | None = None


@dataclass(frozen=True)
class ForeignStudy:
    """Runs that belong together.

    Attributes:
        source: where they are from: `optuna:sqlite:///x.db#study`, or the name of a file.
        runs: those that have ended.
        monitor: the metric that compares them.
        maximize: whether higher values of it are better.
    """

    source: str
    runs: Sequence[ForeignRun]
    monitor: str
    maximize: bool


def as_shares(study: ForeignStudy, percent: Collection[str] = ()) -> ForeignStudy:
    """Return the study with the metrics `percent` divided by 100: lab's accuracies are between 0 and 1.

    Raises:
        ConfigError: no run has such a metric, or an accuracy is above 1.
    """
    known = {name for run in study.runs for values in (run.metrics, *run.curves.values()) for name in values}
    for name in percent:
        if name not in known:
            raise ConfigError(f"--percent: {study.source} has no metric '{name}'.{suggest(name, known)}")

    def divided(values: Mapping[str, float]) -> dict[str, float]:
        return {name: value / 100 if name in percent else value for name, value in values.items()}

    runs = [
        replace(
            run,
            metrics=divided(run.metrics),
            curves={step: divided(values) for step, values in run.curves.items()},
        )
        for run in study.runs
    ]
    for run in runs:
        for name, value in run.metrics.items():
            if in_percent(name) and value > _WHOLE:
                raise ConfigError(
                    f"{study.source}: '{run.name}' has {name}={value:g}, but accuracies are between 0 and 1. If it is "
                    f"in percent, import it with --percent {shlex.quote(name)}, which divides it by 100"
                )
    return replace(study, runs=runs)


def keep_foreign(tracker: Tracker, name: str, study: ForeignStudy) -> tuple[int, int]:
    """Keep the runs of `study` that the experiment `name` lacks; return how many these were, and how many it had.

    The experiment then looks like that of a study of lab's, so that leaderboards, effects and comparisons can be made
    of it.

    Raises:
        TrackingError: the experiment has runs that were trained here, or the store failed.
    """
    experiment = tracker.experiment(name)
    known = _known(tracker, experiment, name, study.runs)
    new = [run for run in study.runs if run.key not in known]
    if new:
        parent = _parent(tracker, experiment, name, study)
        for run in new:
            _keep(tracker, experiment, name, study, parent, run)
        parent.end(RunStatus.FINISHED)
    return len(new), len(study.runs) - len(new)


def content_keys(runs: Iterable[tuple[str, Mapping[str, object]]]) -> list[str]:
    """Return keys for runs to which their source gives none: digests of their names and of their values.

    Wherever in the source a run is, it has the same key. Those that are the same in everything are counted.
    """
    seen: Counter[str] = Counter()
    keys = []
    for name, values in runs:
        content = sorted(
            (_nameable(key), text) for key, value in values.items() if (text := _one_form(value))
        )
        digest = hashlib.sha256(json.dumps([name, content]).encode()).hexdigest()[:16]
        seen[digest] += 1
        keys.append(f"{_BY_CONTENT}{digest}:{seen[digest]}")
    return keys


def _one_form(value: object) -> str:
    """Return a value as text: 0.1 and `0.10` as the same; nothing for what is no finite number."""
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return str(number) if math.isfinite(number) else ""


def _known(tracker: Tracker, experiment: str, name: str, runs: Sequence[ForeignRun]) -> set[str]:
    """Return the keys of the runs that the experiment has."""
    by_content = any(run.key.startswith(_BY_CONTENT) for run in runs)
    stored = tracker.runs(experiment, tags={Tag.KIND: "trial"}, metrics=None if by_content else ())
    keys = stored.get(f"tags.{Tag.IMPORTED}")
    trained = len(stored) if keys is None else int(keys.isna().sum())
    if trained:
        raise TrackingError(
            f"The experiment '{name}' has {counted(trained, 'run')} that lab trained; import into another with --name"
        )
    if keys is None:
        return set()
    if not by_content:
        return set(keys)
    has_best = any("best_value" in run.metrics for run in runs)
    earlier = stored[~keys.str.startswith(_BY_CONTENT)]
    return {*keys, *content_keys(_content(row, has_best=has_best) for _, row in earlier.iterrows())}


def _content(row: pd.Series, *, has_best: bool) -> tuple[str, dict[str, object]]:
    """Return the name and the values of a stored run, as its source has them.

    Earlier versions had the name or the number of its row as the key of a run without an id.
    """
    key = row[f"tags.{Tag.IMPORTED}"]
    has_name = not (key.isdigit() and row["name"] == f"row {int(key) + 1}")
    values = {
        str(column).removeprefix(group): value
        for group in ("params.", "metrics.")
        for column, value in row.dropna().items()
        if str(column).startswith(group) and (has_best or column != "metrics.best_value")
    }
    return key if has_name else "", values


def _parent(tracker: Tracker, experiment: str, name: str, study: ForeignStudy) -> Run:
    """Open the run that stands for the study, creating it the first time."""
    found = tracker.find_runs(experiment, {Tag.KIND: "study"})
    tags = {
        Tag.KIND: "study",
        Tag.STUDY: name,
        Tag.IMPORTED: study.source,
        Tag.MONITOR: study.monitor,
        Tag.DIRECTION: "maximize" if study.maximize else "minimize",
        Tag.VARIED: json.dumps(_varied(study.runs)),
    }
    return tracker.open_run(name=name, experiment=experiment, tags=tags, run_id=found[0] if found else None)


def _varied(runs: Iterable[ForeignRun]) -> list[str]:
    values: dict[str, set[str | None]] = {}
    runs = list(runs)
    for name in dict.fromkeys(name for run in runs for name in run.params):
        values[_nameable(name)] = {run.params.get(name) for run in runs}
    return [name for name, found in values.items() if len(found) > 1]


def _keep(
    tracker: Tracker, experiment: str, name: str, study: ForeignStudy, parent: Run, foreign: ForeignRun
) -> None:
    run = tracker.open_run(
        name=foreign.name,
        experiment=experiment,
        tags={Tag.STUDY: name},
        parent_run_id=parent.run_id,
        timestamp=foreign.began,
    )
    run.log_params({_nameable(key): value for key, value in foreign.params.items()})
    run.log_history({step: _named(values) for step, values in foreign.curves.items()})
    best = {"best_value": foreign.metrics[study.monitor]} if study.monitor in foreign.metrics else {}
    run.log_metrics({**_named(foreign.metrics), **best})
    # last: a run without these, because this was broken off, does not count
    run.set_tags({Tag.KIND: "trial", Tag.OUTCOME: foreign.outcome, Tag.IMPORTED: foreign.key})
    run.end(_ENDED.get(foreign.outcome, RunStatus.FINISHED), timestamp=foreign.ended)


def _named(metrics: Mapping[str, float]) -> dict[str, float]:
    return {_nameable(name): value for name, value in metrics.items()}


def _nameable(name: str) -> str:
    return _UNNAMEABLE.sub("_", name)
