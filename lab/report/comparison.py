"""Two studies, groups of cells or runs compared: is one better, by how much, and how sure is that?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from lab.config import rises, setting_names
from lab.config.trial import NOT_IDENTITY
from lab.errors import StudyError
from lab.registry import suggest
from lab.report.differences import Difference, McNemar, corrected, difference, mcnemar
from lab.report.repeats import REPEATING, is_averaged, repeat_names
from lab.report.statistics import FEWEST
from lab.tracking import Tracker
from lab.tracking.predictions import read_predictions
from lab.tracking.tags import Tag
from lab.wording import counted

__all__ = ["CellDifference", "Comparison", "Paired", "Side", "compare", "other_images", "paired"]

# what decides which images a model is tested on, and on which ones the monitored metric is measured
_TEST_IMAGES: Final = (
    *("dataset", "data_digest", "classes", "label_column", "split_column", "group_column"),
    *("split_seed", "test_fraction"),
)
_VAL_IMAGES: Final = ("val_fraction", "folds")
_MOST_VALUES = 6  # of a setting; more are counted
_OTHERS: Final = ("best_value", "test_accuracy", "test_loss", "seconds")


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison.

    Attributes:
        name: as the user wrote it.
        runs: of its trials, from `Tracker.runs`.
        monitor: the metric that its trials' best values are of.
        maximize: whether higher values of it are better.
    """

    name: str
    runs: pd.DataFrame
    monitor: str
    maximize: bool


@dataclass(frozen=True)
class CellDifference:
    """The comparison of one cell that both sides have; `cell` has the settings that tell it from the others."""

    cell: Mapping[str, str]
    difference: Difference


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison of A and B has found.

    Attributes:
        a: name of A.
        b: name of B.
        metric: that was compared.
        monitor: that A monitors.
        descending: whether its highest value is the best.
        whole: the comparison of all that A and B have in common.
        of: what `whole` compares: the `repeats` (means over the cells that both have), these `cells` where there are
            too few repeats, or the repeats of the `best` cell of each, because no cell is part of both.
        shared: number of cells that both have.
        compared: number of those that `whole` is of; others lack repeats.
        chosen_from: if no cell is part of both, of how many cells of A and of B that of `whole` has the best mean of
            `monitor`.
        cells: each cell that both have, corrected for their number; empty if they have only one.
        models: the test predictions of the best model of each; None if not both runs have kept theirs.
        best_runs: ids of these runs.
        settings: those that differ, with their values in A and in B.
        others: the differences in other metrics.
        left_out: number of trials of A and of B without a value, or that diverged.
    """

    a: str
    b: str
    metric: str
    monitor: str
    descending: bool
    whole: Difference
    of: str
    shared: int
    compared: int
    chosen_from: tuple[int, int]
    cells: tuple[CellDifference, ...]
    models: McNemar | None
    best_runs: tuple[str, str]
    settings: Mapping[str, tuple[str, str]]
    others: Mapping[str, Difference]
    left_out: tuple[int, int]

    @property
    def is_single(self) -> bool:
        """Whether both sides have a single run, so that nothing is known about other seeds."""
        return len(self.whole.a) == len(self.whole.b) == 1

    @property
    def winner(self) -> str | None:
        """The name of the better side; None if they cannot be told apart."""
        if self.is_single and self.models is not None:
            return _better(self, self.models.value, True) if self.models.is_clear else None
        return _better(self, self.whole.value, self.descending) if self.whole.is_clear else None


def compare(tracker: Tracker, a: Side, b: Side, metric: str = "best_value") -> Comparison:
    """Compare two sides by `metric`.

    The question is whether the difference would be there with other seeds, so these are what is compared, each averaged
    over the cells that both sides have: a seed is shared by all cells of a study, so cells do not differ independently
    of each other. Only with fewer than three repeats are the cells compared, by pairs. See `difference` for the tests.

    Args:
        tracker: where the runs are.
        a: one side.
        b: the other.
        metric: that the runs log once.

    Raises:
        StudyError: they monitor other metrics or are of other data, have runs in common, or no run with such a value.
        TrackingError: the store fails, or predictions cannot be read.
    """
    _check_comparable(tracker, a, b, metric)
    meant = a.monitor if metric == "best_value" else metric
    said = rises(meant)
    descending = a.maximize if said is None else said
    first, second = (_Sample.of(side, metric) for side in (a, b))
    keys = _told_apart_by(a.runs, b.runs)
    found = _compare(first, second, keys, meant)
    best = _best_run(found.a, descending), _best_run(found.b, descending)
    return Comparison(
        a=a.name,
        b=b.name,
        metric=meant,
        monitor=a.monitor,
        descending=descending,
        whole=found.whole,
        of=found.of,
        shared=found.shared,
        compared=found.compared,
        chosen_from=found.chosen_from,
        cells=found.cells,
        models=_models(tracker, a.name, b.name, best),
        best_runs=best,
        settings=_different_settings(a.runs, b.runs),
        others=dict(_others(found, keys, metric)),
        left_out=(first.left_out, second.left_out),
    )


@dataclass(frozen=True)
class Paired:
    """The difference of the cells that two sides share, A minus B.

    `shared` is the number of these cells, `compared` that of the cells that `whole` is of, as others lack repeats, and
    `left_out` that of trials of both sides that do not count.
    """

    whole: Difference
    shared: int
    compared: int
    left_out: int


def paired(a: Side, b: Side, metric: str) -> Paired | None:
    """Compare two sides of one study as `compare` does; return None if no cell is part of both.

    Args:
        a: one side; its trials are of the same data as those of `b`.
        b: the other.
        metric: that the runs log once; its highest value is the best.

    Raises:
        StudyError: a side has no run with such a value.
    """
    first, second = (_Sample.of(side, metric) for side in (a, b))
    found = _compare(first, second, _told_apart_by(a.runs, b.runs), metric)
    if not found.shared:
        return None
    return Paired(found.whole, found.shared, found.compared, first.left_out + second.left_out)


def _better(found: Comparison, value: float, descending: bool) -> str:
    return found.a if (value > 0) == descending else found.b


@dataclass(frozen=True, eq=False)
class _Sample:
    """The values of one side: `runs` has a row for each run with one, and its columns `value` and `repeat`."""

    side: Side
    runs: pd.DataFrame
    left_out: int

    @classmethod
    def of(cls, side: Side, metric: str) -> _Sample:
        """Return the values of `metric`; those that are not finite, and trials that diverged, are left out."""
        runs = side.runs
        values = pd.to_numeric(_column(runs, f"metrics.{metric}")).astype("float64")
        outcomes = pd.DataFrame({"outcome": _column(runs, f"tags.{Tag.OUTCOME}")})
        counts = values.map(math.isfinite) & is_averaged(outcomes, pd.Series(0, index=runs.index))
        found = runs.assign(value=values, repeat=repeat_names(runs))[counts]
        found = found.iloc[::-1].sort_values("start_time", kind="stable")  # the oldest first
        if found.empty:
            of, near = "", ""
            if metric != "best_value":
                logged = (
                    str(name).removeprefix("metrics.") for name in runs if str(name).startswith("metrics.")
                )
                of, near = f" with a metric '{metric}'", suggest(metric, logged)
            raise StudyError(
                f"{side.name} has no finished trial{of} yet: "
                f"{counted(len(runs), 'trial')}, none of them with a finite value.{near}"
            )
        return cls(side, found, len(runs) - len(found))

    def table(self, keys: Sequence[str]) -> pd.DataFrame:
        """Return the values with a row for each cell and a column for each repeat."""
        found = self.runs["value"].groupby([_labels(self.runs, keys), self.runs["repeat"]], sort=False).mean()
        table = found.unstack()
        return table[
            sorted(table, key=lambda repeat: [int(number) for number in re.findall(r"\d+", str(repeat))])
        ]

    def best(self, keys: Sequence[str]) -> str:
        """Return the cell with the best mean of the monitored metric: one chosen by what is compared looks too good."""
        values = pd.to_numeric(_column(self.runs, "metrics.best_value")).astype("float64")
        values = values.where(values.map(math.isfinite))
        means = values.groupby(_labels(self.runs, keys), sort=False).mean()
        if means.isna().all():
            return str(means.index[0])
        return str(means.idxmax() if self.side.maximize else means.idxmin())

    def only(self, cells: Iterable[str], keys: Sequence[str]) -> _Sample:
        """Return the sample of these cells."""
        return _Sample(self.side, self.runs[_labels(self.runs, keys).isin(list(cells))], self.left_out)


@dataclass(frozen=True, eq=False)
class _Found:
    """A comparison, and the samples that it is of."""

    a: _Sample
    b: _Sample
    whole: Difference
    of: str
    shared: int = 0
    compared: int = 0
    cells: tuple[CellDifference, ...] = ()
    chosen_from: tuple[int, int] = (1, 1)


def _compare(a: _Sample, b: _Sample, keys: Sequence[str], metric: str) -> _Found:
    first, second = a.table(keys), b.table(keys)
    shared = first.index.intersection(second.index, sort=False)
    if shared.empty:
        cell, other = a.best(keys), b.best(keys)
        whole = _of_repeats(first.loc[[cell]], second.loc[[other]], metric)
        counts = len(first), len(second)
        return _Found(a.only([cell], keys), b.only([other], keys), whole, "best", chosen_from=counts)
    first, second = first.loc[shared].dropna(axis=1, how="all"), second.loc[shared].dropna(axis=1, how="all")
    each = [(cell, _of_repeats(first.loc[[cell]], second.loc[[cell]], metric)) for cell in shared]
    whole, of, compared = _whole(first, second, metric)
    a, b = a.only(shared, keys), b.only(shared, keys)
    cells = _corrected_cells(a.runs, each, keys) if len(shared) > 1 else ()
    return _Found(a, b, whole, of, len(shared), compared, cells)


def _whole(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> tuple[Difference, str, int]:
    """Return the difference of the same cells, whether it is of their `repeats` or of the `cells`, and their number.

    A cell that lacks repeats would count for some of them only. A few such cells are left out; where they are half of
    the cells or more, the others say too little about all of them.
    """
    complete = a.notna().all(axis=1) & b.notna().all(axis=1)
    if min(a.shape[1], b.shape[1]) >= FEWEST and 2 * complete.sum() > len(a):
        return _of_repeats(a[complete], b[complete], metric), "repeats", int(complete.sum())
    if len(a) >= FEWEST:
        return difference([*a.mean(axis=1)], [*b.mean(axis=1)], pairs="cell", metric=metric), "cells", len(a)
    first, second = a.dropna(axis=1), b.dropna(axis=1)
    if first.empty or second.empty:
        first, second = a, b
    return _of_repeats(first, second, metric), "repeats", len(a)


def _of_repeats(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> Difference:
    """Return the difference of the repeats' means over cells: by pairs if one side has all repeats of the other."""
    first, second = a.mean().dropna(), b.mean().dropna()
    shared = first.index.intersection(second.index)
    if len(shared) < min(len(first), len(second)):
        return difference([*first], [*second], metric=metric)
    pairs = "fold" if len(shared) and shared[0].startswith("fold") else "seed"
    return difference([*first[shared]], [*second[shared]], pairs=pairs, metric=metric)


def _corrected_cells(
    runs: pd.DataFrame, each: Sequence[tuple[str, Difference]], keys: Sequence[str]
) -> tuple[CellDifference, ...]:
    labels = _labels(runs, keys)
    first = runs.loc[~labels.duplicated()].set_index(labels[~labels.duplicated()])
    naming = _naming(first, keys)
    texts = _column(first, [f"params.{key}" for key in naming])
    names = {
        cell: {key: text for key in naming if isinstance(text := texts.at[cell, f"params.{key}"], str)}
        for cell, _ in each
    }
    found = corrected([found for _, found in each])
    return tuple(CellDifference(names[cell], one) for (cell, _), one in zip(each, found, strict=True))


def _naming(cells: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return those of `keys` that are needed to tell the cells apart: not `filters`, which follow from the width."""
    needed: list[str] = []
    told = 1
    for key in keys:
        groups = _labels(cells, [*needed, key]).nunique()
        if groups > told:
            needed.append(key)
            told = groups
    return needed


def _others(found: _Found, keys: Sequence[str], metric: str) -> Iterator[tuple[str, Difference]]:
    """Yield the differences of the same trials in the usual metrics, apart from `metric`."""
    cells = () if found.of == "best" else keys
    for name in _OTHERS:
        meant = found.a.side.monitor if name == "best_value" else name
        with suppress(StudyError):  # one side has no such values
            if name != metric:
                first, second = (
                    _Sample.of(replace(each.side, runs=each.runs), name) for each in (found.a, found.b)
                )
                yield meant, _compare(first, second, cells, meant).whole


def _best_run(sample: _Sample, descending: bool) -> str:
    values = sample.runs["value"]
    return str(sample.runs["run_id"].iloc[int(values.argmax() if descending else values.argmin())])


def _models(tracker: Tracker, a: str, b: str, runs: tuple[str, str]) -> McNemar | None:
    first, second = (read_predictions(tracker, run_id) for run_id in runs)
    if first is None or second is None:
        return None
    if not first["label"].equals(second["label"]):
        raise StudyError(
            f"{a} and {b} cannot be compared: the test images of run {runs[0]} are not those of run {runs[1]}"
        )
    return mcnemar(first["label"], first["predicted"], second["predicted"])


def _check_comparable(tracker: Tracker, a: Side, b: Side, metric: str) -> None:
    faults = []
    if metric == "best_value" and (a.monitor, a.maximize) != (b.monitor, b.maximize):
        faults.append(f"monitored metric: {_aim(a)} and {_aim(b)}")
    of_val = metric == "best_value" or metric.startswith("val_")
    faults += [f"{name}: {one} and {other}" for name, one, other in other_images(a.runs, b.runs, of_val)]
    if not faults and _other_pixels(tracker, a, b):
        faults.append("the digest of their images")
    if faults:
        raise StudyError(
            f"{a.name} and {b.name} cannot be compared, because they differ in:\n"
            + "\n".join(f"  {fault}" for fault in faults)
        )
    both = set(a.runs["run_id"]) & set(b.runs["run_id"])
    if both:
        raise StudyError(
            f"{a.name} and {b.name} have {counted(len(both), 'run')} in common; compare what has none in common"
        )


def other_images(a: pd.DataFrame, b: pd.DataFrame, of_val: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the settings by which two groups of runs measure on other images, each with its values in A and in B.

    Args:
        a: from `Tracker.runs`.
        b: the same.
        of_val: whether validation images count, and not only those of the test split.
    """
    for name in (*_TEST_IMAGES, *(_VAL_IMAGES if of_val else ())):
        first, second = _values(a, name), _values(b, name)
        unknown = name == "data_digest" and not (first and second)  # of runs of an earlier version
        if first != second and not unknown:
            yield name, _listed(first), _listed(second)


def _other_pixels(tracker: Tracker, a: Side, b: Side) -> bool:
    """Return whether a run of A and one of B that read and split the same data had other images."""
    settings = [name for name in setting_names() if _is_of_data(name)]
    first, second = (_labels(side.runs, settings) for side in (a, b))
    alike = set(first) & set(second)
    if not alike:
        return False
    chosen = next(iter(sorted(alike)))
    one, other = (
        tracker.dataset_digests(str(side.runs["run_id"][labels == chosen].iloc[0]))
        for side, labels in ((a, first), (b, second))
    )
    return bool(one and other) and one != other


def _is_of_data(name: str) -> bool:
    read = ("image_size", "resize", "background", "full_scale", "skip_unreadable", "train_samples", "fold")
    return name in (*_TEST_IMAGES, *_VAL_IMAGES, *read)


def _told_apart_by(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Return the settings that tell the cells of A, or those of B, from each other.

    A setting that follows from others, such as `filters` from the width and the depth, does not count where it would
    keep the cells of A from being those of B.
    """
    keys = [
        name
        for name in _settings(a, b)
        if name not in REPEATING
        and any(_column(runs, f"params.{name}").nunique(dropna=False) > 1 for runs in (a, b))
    ]
    for name in [name for name in keys if _values(a, name) != _values(b, name)]:
        rest = [key for key in keys if key != name]
        if all(_labels(runs, rest).nunique() == _labels(runs, keys).nunique() for runs in (a, b)):
            keys = rest
    return keys


def _different_settings(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, tuple[str, str]]:
    found = {name: (_values(a, name), _values(b, name)) for name in _settings(a, b) if name != "data_dir"}
    return {name: (_listed(one), _listed(other)) for name, (one, other) in found.items() if one != other}


def _settings(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """Return the settings that either has, and the labels of variants that both have."""
    known = [name for name in setting_names() if name not in NOT_IDENTITY]
    both = {str(name) for name in a.columns.intersection(b.columns) if str(name).startswith("params.")}
    labels = sorted(name.removeprefix("params.") for name in both)
    names = dict.fromkeys((*known, *(name for name in labels if name not in NOT_IDENTITY)))
    return [name for name in names if f"params.{name}" in a or f"params.{name}" in b]


def _labels(runs: pd.DataFrame, keys: Sequence[str]) -> pd.Series[str]:
    """Return a text for each run that is the same for equal values of `keys`."""
    texts = _column(runs, [f"params.{key}" for key in keys]).fillna("").astype("str")
    return texts.apply("\n".join, axis=1) if keys else pd.Series("", index=runs.index)


def _column(runs: pd.DataFrame, name: Any) -> Any:
    if isinstance(name, str):
        return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype="object")
    return runs.reindex(columns=name)


def _values(runs: pd.DataFrame, name: str) -> tuple[str, ...]:
    return tuple(sorted(_column(runs, f"params.{name}").dropna().unique(), key=_in_order))


def _in_order(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _listed(values: Sequence[str]) -> str:
    if len(values) > _MOST_VALUES:
        return f"{len(values)} values from {values[0]} to {values[-1]}"
    return ("; " if any("," in value for value in values) else ", ").join(values) or "–"


def _aim(side: Side) -> str:
    return f"{side.monitor} ({'higher' if side.maximize else 'lower'} is better)"
