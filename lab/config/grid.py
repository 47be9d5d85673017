"""Grid files: a base configuration and what varies over it.

With `search:` a sampler chooses points in place of every combination: see `lab.config.search`.

An example::

    name: digits_models             # default: the file's name
    description: Which net learns the digits best?
    base:                           # config values that every trial shares
      dataset: digits
      depth: 2
    grid:                           # every combination is one cell; the last dimension changes fastest
      lr: [0.001, 0.01]             # a config field over values
      optimizer: [adam, sgd]
      momentum: [0.5, 0.9]
      net:                          # variants: labels for several values moved together
        plain: {activation: relu}
        normed: {activation: gelu, norm: batch}
    when:
      momentum: {optimizer: sgd}    # adam's cells have no momentum, and are counted once
    exclude:
      - {optimizer: sgd, lr: 0.001, net: [plain]}
    constraints:
      - params <= 150_000           # counted before any training
    repeats: 3                      # every cell under seeds 0, 1, 2; or a list of seeds
    epochs: 10                      # most epochs of a trial
    patience: 3                     # epochs without improvement before it stops
    budget: {trials: 30, seconds: 600}
    max_retries: 2                  # retries after a worker crash
    gpu_memory: 6GB                 # GPU memory that one trial needs; several trials then share a GPU
    needs: pretrain.yaml            # grid files, beside this one, whose studies are swept first
    report: F. one factor at a time # what the study repeats, and what was reported there
    reported:
      - {cells: {optimizer: sgd, lr: 0.001}, test_accuracy: 0.983, note: one epoch}
      - {cells: {net: plain}, outcome: not_converged}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, model_validator

from lab.config.constraint import Constraint
from lab.config.kinds import as_text
from lab.config.search import Search, SearchFile
from lab.config.space import Clause, Space, token
from lab.config.trial import TrialConfig, parse_config
from lab.errors import ConfigError, Fault

__all__ = ["FILE_KEYS", "Budget", "Grid", "GridFile", "Reported", "ReportedEntry", "Selection"]

_STRICT: Final = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)
_MAX_LABEL: Final = 250  # MLflow's run names
_LEAST_MEMORY: Final = 1_000_000  # bytes


def _plausible(memory: ByteSize) -> ByteSize:
    if memory < _LEAST_MEMORY:  # `gpu_memory: 6` means six gigabytes, not six bytes
        raise ValueError("must be at least 1MB, with its unit, such as 6GB")
    return memory


class Budget(BaseModel):
    """Where a study ends before its grid does."""

    model_config = _STRICT

    trials: Annotated[int, Field(ge=1)] | None = None
    """Most cells to run, in order; of a search, how many points it tries."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """No trial starts after so much wall-clock time."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """No trial of a search starts after so many epochs of all its trials together."""


class ReportedEntry(BaseModel):
    """What a report says of some cells; no cells means the best of all."""

    model_config = _STRICT

    cells: dict[str, Any] = {}
    """Keys and the values of which a cell must have one."""
    test_accuracy: float | list[float] | None = None
    """The report's test accuracy, from 0 to 1, or the lowest and the highest of several."""
    outcome: str | None = None
    """How the report says that the trials ended."""
    note: Annotated[str, Field(max_length=500)] = ""
    """What else to know of the figure."""

    @model_validator(mode="after")
    def _says_something(self) -> ReportedEntry:
        if (self.test_accuracy is None) == (self.outcome is None):
            raise ValueError("must give either test_accuracy or outcome")
        values = self.test_accuracy if isinstance(self.test_accuracy, list) else [self.test_accuracy or 0.0]
        if len(values) > 2 or values != sorted(values) or not all(0 <= value <= 1 for value in values):
            raise ValueError("test_accuracy must be a share from 0 to 1, or two of them, the lower first")
        return self


class GridFile(BaseModel):
    """The keys of a grid file, as they stand in it; `load_grid` makes a `Grid` of them."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=100)] | None = None
    """Name of the study and its experiment (default: the file's name)."""
    description: Annotated[str, Field(max_length=5000)] = ""
    """What the study is for."""
    base: dict[str, Any] = {}
    """Config values that every cell shares."""
    grid: dict[str, Any] = {}
    """What varies: a config field over a list of values, or variants: labels with several values each."""
    search: SearchFile | None = None
    """What a sampler chooses, in place of every combination."""
    when: dict[str, dict[str, Any]] = {}
    """Conditions under which a dimension is part of a cell."""
    exclude: list[dict[str, Any]] = []
    """Combinations to leave out."""
    constraints: list[str] = []
    """Limits on what is counted before training."""
    repeats: Any = 1
    """Seeds for every cell: so many, or a list of them."""
    epochs: Any = None
    """Most epochs of a trial: `base.epochs`."""
    patience: Any = None
    """Patience of a trial: `base.patience`."""
    budget: Budget = Budget()
    """Where the study ends before the grid does."""
    max_retries: Annotated[int, Field(ge=0)] = 2
    """How often a cell is tried again whose process died; one that raised an error is not."""
    gpu_memory: Annotated[ByteSize, AfterValidator(_plausible)] | None = None
    """GPU memory that one trial needs, such as 6GB; from it follows how many trials share a GPU."""
    needs: str | list[str] = []
    """Grid files, relative to this one, whose studies are to be finished first."""
    report: Annotated[str, Field(max_length=200)] = ""
    """Which part of which report the study repeats."""
    reported: list[ReportedEntry] = []
    """The figures of the report, which `lab results` sets beside the study's own."""


#: The file's own keys that hold one value each: what `--set` replaces beside the values of `base`.
FILE_KEYS: Final = (
    "name",
    "repeats",
    "max_retries",
    "gpu_memory",
    *(f"budget.{name}" for name in Budget.model_fields),
)


@dataclass(frozen=True)
class Selection:
    """A choice of cells: keys, and the values of which each must have one."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{key}={'|'.join(as_text(value) for value in allowed)}" for key, allowed in self.clauses
        )

    def matches(self, space: Space, point: Mapping[str, Any]) -> bool:
        """Return whether `point` has one of the values of every key; an inactive dimension has none."""
        return all(_has(space, point, key, allowed) for key, allowed in self.clauses)


@dataclass(frozen=True)
class Reported(Selection):
    """What a report says of the cells it selects (all of them, where it names none).

    `test_accuracy` is a share, or the lowest and the highest of several; or else `outcome` says how they ended.
    """

    test_accuracy: float | tuple[float, float] | None = None
    outcome: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A grid file that has been checked: what every cell shares, and the space of cells."""

    name: str
    description: str
    file: str
    base: Mapping[str, Any]
    space: Space
    exclude: tuple[Selection, ...] = ()
    only: Selection | None = None
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = field(default_factory=Budget)
    max_retries: int = 2
    gpu_memory: int | None = None  # bytes
    needs: tuple[str, ...] = ()
    report: str = ""
    reported: tuple[Reported, ...] = ()
    search: Search | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    text: str = field(default="", repr=False)

    def config(self, point: Mapping[str, Any]) -> TrialConfig:
        """Return the config of a cell: the base, and over it what `point` stands for.

        Raises:
            ConfigError: values that contradict each other; names the cell.
        """
        values = self.space.values(point)
        try:
            return parse_config({**self.base, **values})
        except ConfigError as error:
            cell = ", ".join(f"{name}={as_text(value)}" for name, value in {**point, **values}.items())
            place = f" (in the cell {cell})" if cell else ""
            raise ConfigError([Fault(f.message + place, f.key, self.file) for f in error.faults]) from None

    def excluded(self, point: Mapping[str, Any]) -> str | None:
        """Return why `exclude` or `only` leaves `point` out, or None if they do not."""
        if self.only is not None and not self.only.matches(self.space, point):
            return f"not among --only {self.only}"
        for exclusion in self.exclude:
            if exclusion.matches(self.space, point):
                return f"excluded: {exclusion}"
        return None

    def label(self, point: Mapping[str, Any]) -> str:
        """Return a short name for a cell: `relu lr=0.01 adam depth=2`; of a single cell, the grid's name."""
        parts = []
        for name, value in point.items():
            text = f"{value:.4g}" if name in self._ranged and isinstance(value, float) else as_text(value)
            bare = isinstance(value, str) and text not in self._ambiguous
            parts.append(text if bare else f"{name}={text}")
        label = " ".join(parts) or self.name
        return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"

    @cached_property
    def _ranged(self) -> frozenset[str]:
        return frozenset(dim.name for dim in self.space.dimensions if dim.range is not None)

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        texts = Counter(
            value for dim in self.space.dimensions for value in dim.candidates if isinstance(value, str)
        )
        return frozenset({"none", *(text for text, count in texts.items() if count > 1)})


def _has(space: Space, point: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> bool:
    try:
        seen = token(space.seen(key, point))
    except KeyError:
        return False
    return any(token(value) == seen for value in allowed)
