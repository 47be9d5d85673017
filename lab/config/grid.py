"""Grid files: a base configuration and what varies over it.

With `search:`, a sampler chooses points instead of training every combination: see `lab.config.search`.

An example::

    name: digits_models             # default: the file's name
    description: Which net learns the digits best?
    base:                           # settings that all trials share
      dataset: digits
      depth: 2
    grid:                           # every combination is one cell; the last dimension changes fastest
      lr: [0.001, 0.01]             # a setting and its values
      optimizer: [adam, sgd]
      momentum: [0.5, 0.9]
      net:                          # variants: each label sets several settings at once
        plain: {activation: relu}
        normed: {activation: gelu, norm: batch}
    when:
      momentum: {optimizer: sgd}    # Adam ignores momentum, so it adds no cells
    exclude:
      - {optimizer: sgd, lr: 0.001, net: [plain]}
    constraints:
      - params <= 150_000           # counted before any training
    repeats: 3                      # every cell with seeds 0, 1, 2; or a list of seeds
    epochs: 10                      # maximum number of epochs
    patience: 3                     # epochs without improvement before early stopping
    budget: {trials: 30, seconds: 600}
    max_retries: 2                  # retries after a worker crash
    max_failures: 5                 # start no new trials once five cells have failed
    priority: 10                    # workers of several studies take those of higher priority first
    notify: $TEAM_CHAT              # environment variables or files with the addresses of those who are told
    gpu_memory: 6GB                 # GPU memory that one trial needs; several trials then share a GPU
    needs: pretrain.yaml            # grid files, in the same folder, whose studies are swept first
    report: F. one factor at a time # which part of a report the study reproduces, and its figures
    reported:
      - {cells: {optimizer: sgd, lr: 0.001}, test_accuracy: 0.983, note: one epoch}
      - {cells: {net: plain}, outcome: not_converged}
    claims:                         # judged by the test accuracy of the same cells and seeds
      - {claim: Adam beats SGD, cells: {optimizer: adam}, beats: {optimizer: sgd}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, model_validator

from lab.config.claims import Claim, ClaimEntry
from lab.config.constraint import Constraint
from lab.config.kinds import as_text
from lab.config.notify import Notify
from lab.config.search import Search, SearchFile
from lab.config.selection import Selection
from lab.config.space import Space
from lab.config.trial import TrialConfig, parse_config
from lab.errors import ConfigError, Fault

__all__ = ["FILE_KEYS", "Budget", "Grid", "GridFile", "Reported", "ReportedEntry"]

_STRICT: Final = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)
_MAX_LABEL: Final = 250  # MLflow's run names
_LEAST_MEMORY: Final = 1_000_000  # bytes


def _plausible(memory: ByteSize) -> ByteSize:
    if memory < _LEAST_MEMORY:  # `gpu_memory: 6` means six gigabytes, not six bytes
        raise ValueError("must be at least 1MB, with its unit, such as 6GB")
    return memory


class Budget(BaseModel):
    """Limits that end a study before all its cells are trained."""

    model_config = _STRICT

    trials: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of cells to run, in order; for a search, the number of trials."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Wall-clock time after which no new trials start."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Total number of epochs of a search after which no new trials start."""


class ReportedEntry(BaseModel):
    """What a report says about some cells; without `cells`, about the best of all."""

    model_config = _STRICT

    cells: dict[str, Any] = {}
    """Keys, and the values of which a cell must have one."""
    test_accuracy: float | list[float] | None = None
    """The reported test accuracy, from 0 to 1, or the lowest and the highest of several."""
    outcome: str | None = None
    """The reported outcome of the trials."""
    note: Annotated[str, Field(max_length=500)] = ""
    """A remark on the figure."""

    @model_validator(mode="after")
    def _says_something(self) -> ReportedEntry:
        if (self.test_accuracy is None) == (self.outcome is None):
            raise ValueError("must give either test_accuracy or outcome")
        values = self.test_accuracy if isinstance(self.test_accuracy, list) else [self.test_accuracy or 0.0]
        if len(values) > 2 or values != sorted(values) or not all(0 <= value <= 1 for value in values):
            raise ValueError(
                "test_accuracy must be a fraction from 0 to 1, or two of them, the lower one first"
            )
        return self


class GridFile(BaseModel):
    """The keys of a grid file, as written; `load_grid` turns them into a `Grid`."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=100)] | None = None
    """Name of the study and its experiment (default: the file name)."""
    description: Annotated[str, Field(max_length=5000)] = ""
    """What the study is for."""
    base: dict[str, Any] = {}
    """Settings that all cells share."""
    grid: dict[str, Any] = {}
    """What varies: a setting with a list of values, or variants: labels with several settings each."""
    search: SearchFile | None = None
    """What a sampler chooses, instead of every combination."""
    when: dict[str, dict[str, Any]] = {}
    """Conditions under which a dimension is part of a cell, as `{momentum: {optimizer: sgd}}`."""
    exclude: list[dict[str, Any]] = []
    """Combinations to leave out."""
    constraints: list[str] = []
    """Limits on what is counted before training: `params`, `trainable_params`, `mult_adds` and numeric settings."""
    repeats: Any = 1
    """Number of seeds for every cell, or a list of seeds."""
    epochs: Any = None
    """Maximum number of epochs: short for `base.epochs`."""
    patience: Any = None
    """Epochs without improvement before early stopping: short for `base.patience`."""
    budget: Budget = Budget()
    """Limits that end the study early."""
    max_retries: Annotated[int, Field(ge=0)] = 2
    """Maximum number of retries after a worker crash; a trial that raises an error is not retried."""
    max_failures: Annotated[int, Field(ge=1)] | None = None
    """Number of failed cells after which no new trials start; those that are running are trained to their end."""
    gpu_memory: Annotated[ByteSize, AfterValidator(_plausible)] | None = None
    """GPU memory that one trial needs, e.g. 6GB; it determines how many trials share a GPU."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """Workers of several studies take those of higher priority first (default: as before, or 0 for a new study)."""
    notify: Any = None
    """Who gets a message when the study is over, a trial has failed, there is a new best or a worker is lost:
    environment variables (`$NAME`) and files (`file:PATH`) that hold apprise URLs; or
    `{to: …, events: [done, failure]}`."""
    use: str | list[str] = []
    """Plug-ins to load first: your own modules, or .py files, relative to this one. Short for `base.use`."""
    needs: str | list[str] = []
    """Grid files, relative to this one, whose studies must be finished first."""
    report: Annotated[str, Field(max_length=200)] = ""
    """Which part of which report the study reproduces."""
    reported: list[ReportedEntry] = []
    """The figures of the report, which `lab results` shows next to those of the study."""
    claims: list[ClaimEntry] = []
    """What the report claims, which `lab results` judges by the study's own trials."""


#: The keys that hold one value each, which `--set` can replace in addition to the settings of `base`.
FILE_KEYS: Final = (
    "name",
    "repeats",
    "max_retries",
    "max_failures",
    "priority",
    "gpu_memory",
    *(f"budget.{name}" for name in Budget.model_fields),
)


@dataclass(frozen=True)
class Reported(Selection):
    """What a report says about the cells it selects (all cells if it names none).

    Either `test_accuracy` is a fraction, or the lowest and the highest of several; or `outcome` is how they ended.
    """

    test_accuracy: float | tuple[float, float] | None = None
    outcome: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A checked grid file: what all cells share, and the space of cells."""

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
    max_failures: int | None = None
    priority: int | None = None
    notify: Notify | None = None
    gpu_memory: int | None = None  # bytes
    needs: tuple[str, ...] = ()
    report: str = ""
    reported: tuple[Reported, ...] = ()
    claims: tuple[Claim, ...] = ()
    search: Search | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    text: str = field(default="", repr=False)

    def config(self, point: Mapping[str, Any]) -> TrialConfig:
        """Return the config of a cell: the base, overridden by what `point` represents.

        Raises:
            ConfigError: the settings contradict each other; the message names the cell.
        """
        values = self.space.values(point)
        try:
            return parse_config({**self.base, **values})
        except ConfigError as error:
            cell = ", ".join(f"{name}={as_text(value)}" for name, value in {**point, **values}.items())
            place = f" (in the cell {cell})" if cell else ""
            raise ConfigError([Fault(f.message + place, f.key, self.file) for f in error.faults]) from None

    def excluded(self, point: Mapping[str, Any]) -> str | None:
        """Return why `exclude` or `only` leaves out `point`, or None if neither does."""
        if self.only is not None and not self.only.matches(self.space, point):
            return f"not among --only {self.only}"
        for exclusion in self.exclude:
            if exclusion.matches(self.space, point):
                return f"excluded: {exclusion}"
        return None

    def label(self, point: Mapping[str, Any]) -> str:
        """Return a short name for a cell: `relu lr=0.01 adam depth=2`; for a single cell, the grid's name."""
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
