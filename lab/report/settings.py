"""Which runs of a study belong to its newest grid file, and in which settings its runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lab.config import Dimension, Grid, TrialConfig, as_text, parse_grid, parse_value, setting_names
from lab.config.trial import NOT_IDENTITY
from lab.errors import LabError
from lab.report.repeats import compared
from lab.tracking import Reader
from lab.tracking.planned import Planned, read_planned
from lab.tracking.tags import Tag

__all__ = ["NewestFile", "changes", "differing", "in_words", "newest_file", "params_of"]

# read from an image folder unless the file sets them
_OF_THE_DATA = frozenset({"data_digest", "image_size"})
_MOST_WORDS = 3  # settings that differ; more are not named


@dataclass(frozen=True)
class NewestFile:
    """The file that was planned last into a study; `grid` is None if this version of lab cannot read it."""

    planned: Planned
    grid: Grid | None
    _expected: dict[tuple[str | None, ...], dict[str, str] | None] = field(default_factory=dict, repr=False)

    @property
    def ranges(self) -> dict[str, dict[str, Any]]:
        """The ranges from which a sampler chooses, as plain values, by the name of their dimension."""
        dimensions = () if self.grid is None else self.grid.space.dimensions
        return {dim.name: asdict(dim.range) for dim in dimensions if dim.range is not None}

    def names(self, runs: pd.DataFrame) -> pd.Series[bool]:
        """Return which of `runs` belong to the file; all of them if that is unknown."""
        if self.planned.cells:
            return runs.get(f"tags.{Tag.CELL}", pd.Series(index=runs.index)).isin(self.planned.cells)
        if self.grid is None:
            return pd.Series(True, index=runs.index)
        return pd.Series([found == {} for found in self.changes(runs)], index=runs.index, dtype=bool)

    def changes(self, runs: pd.DataFrame) -> list[dict[str, str] | None]:
        """Return how each run differs from the file's point with its values; None if there is no such point."""
        found: list[dict[str, str] | None] = []
        for params in map(params_of, runs.to_dict("records")):
            expected = self._point(params)
            found.append(None if expected is None else changes(params, expected))
        return found

    def _point(self, params: Mapping[str, str]) -> dict[str, str] | None:
        """Return the params of the file's point with the values of a run, cached: a config takes a millisecond."""
        if self.grid is None:
            return None
        values = tuple(params.get(dimension.name) for dimension in self.grid.space.dimensions)
        if values not in self._expected:
            self._expected[values] = _expected(self.grid, params)
        return self._expected[values]


def newest_file(tracker: Reader, run_id: str) -> NewestFile | None:
    """Return the file planned last into the study with the run `run_id`; None for a study of an earlier version.

    Raises:
        TrackingError: the store fails.
    """
    planned = read_planned(tracker, run_id)
    if planned is None:
        return None
    try:
        return NewestFile(planned, parse_grid(planned.text, overrides=planned.overrides))
    except LabError:  # for instance, it has names that a user's code registers
        return NewestFile(planned, None)


def changes(params: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, str]:
    """Return the settings among a run's `params` that are not as `expected`.

    A setting that the run lacks is no change: it may be from a later version of lab. Neither is one that only the run
    has, at its default: it follows from another, as `resize` from the dataset. Only the last part of a folder is
    compared, because the same data is in another place on another machine.
    """
    from_data = _OF_THE_DATA - expected.keys()
    following = {name for name in params.keys() - expected.keys() if params[name] == _default(name)}
    known = params.keys() & set(setting_names()) - NOT_IDENTITY - from_data - following
    different = {name: params[name] for name in sorted(known) if params[name] != expected.get(name, "")}
    if "data_dir" in different:
        folder = Path(different.pop("data_dir")).name
        different |= {"data_dir": folder} if folder != Path(expected.get("data_dir", "")).name else {}
    return different


def differing(runs: pd.DataFrame, varied: Sequence[str]) -> list[str]:
    """Return the settings, apart from `varied`, in which runs with the same values of `varied` differ."""
    keys = [f"params.{name}" for name in compared(varied) if f"params.{name}" in runs]
    groups = runs.groupby(keys, dropna=False).ngroup() if keys else pd.Series(0, index=runs.index)
    settings = [name for name in setting_names() if name not in NOT_IDENTITY and f"params.{name}" in runs]
    return [
        name
        for name in settings
        if name not in varied and (runs[f"params.{name}"].groupby(groups).nunique() > 1).any()
    ]


def in_words(different: Iterable[Mapping[str, str] | None]) -> str:
    """Return the differences, as `epochs=1`, or an empty string if there are too many."""
    texts = dict.fromkeys(f"{name}={value}" for found in different for name, value in (found or {}).items())
    return ", ".join(texts) if len(texts) <= _MOST_WORDS else ""


def _default(name: str) -> str | None:
    """Return the default of a setting as params have it, None if it depends on others."""
    field = TrialConfig.model_fields.get(name)
    return None if field is None or field.is_required() or field.default is None else as_text(field.default)


def params_of(run: Mapping[Any, Any]) -> dict[str, str]:
    """Return the params in a row from `Tracker.runs` by name."""
    texts = {str(name): value for name, value in run.items() if isinstance(value, str)}
    return {
        name.removeprefix("params."): value for name, value in texts.items() if name.startswith("params.")
    }


def _expected(grid: Grid, params: Mapping[str, str]) -> dict[str, str] | None:
    """Return the params of the grid's point with the values of a run, or None if there is none."""

    def choose(dimension: Dimension) -> Any:
        text = params[dimension.name]
        if dimension.range is not None:
            return parse_value(dimension.name, text)
        return {as_text(value): value for value in dimension.candidates}[text]

    try:
        point = grid.space.build(choose)
        if grid.excluded(point):
            return None
        return grid.config(point).as_params()
    except (KeyError, LabError):
        return None
