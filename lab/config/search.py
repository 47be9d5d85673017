"""The `search:` of a grid file: a sampler chooses points of a space, and a pruner stops unpromising trials.

An example::

    search:
      sampler: tpe                          # or {name: tpe, seed: 1, n_startup_trials: 20}: with Optuna's options;
                                            # `grid` tries every point once and needs no budget; `auto` finds the
                                            # best of them in a fraction of the epochs
      pruner: {name: median, n_warmup_steps: 2}
      space:
        lr: {low: 0.0001, high: 0.1, log: true}              # a range of a setting
        batch_size: {low: 32, high: 256, step: 32}
        optimizer: [adam, sgd]                               # choices
        momentum: {low: 0.0, high: 0.99, when: {optimizer: sgd}}
        net: {plain: {activation: relu}, bn: {norm: batch}}  # variants, as in `grid`
      objectives: [val_accuracy]            # default: the monitored metric; several: seeks the Pareto front
      enqueue: [{lr: 0.01, optimizer: adam}]                 # tried first
      target: 0.98                          # once a trial reaches it, no new trials start
    budget: {trials: 50, seconds: 600, epochs: 500}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from lab.config.constraint import FACTS
from lab.config.kinds import as_text
from lab.config.metrics import logged_name, monitorable

__all__ = ["AUTO_SAMPLER", "GRID_SAMPLER", "Method", "Objective", "Search", "SearchFile", "objectives"]

#: The sampler that tries every point of a finite space once, in order.
GRID_SAMPLER: Final = "grid"
#: The sampler that chooses points by a model of the results so far; its trials pause and go on by the pruner `rungs`.
AUTO_SAMPLER: Final = "auto"
_PAUSING: Final = "rungs"

Direction = Literal["maximize", "minimize"]


class SearchFile(BaseModel):
    """The keys of `search:`, as written."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    sampler: Any = "tpe"
    """What chooses the points: a name, or `{name: tpe, seed: 1}` with Optuna's own options. `grid` tries every point of
    choices and stepped ranges once, in order, and needs no budget; `auto` needs none if there are only choices, of
    whose points it tries half."""
    pruner: Any = None
    """What stops unpromising trials, given like the sampler (default: none, or `rungs` with the sampler `auto`);
    consulted after every epoch, for a single objective."""
    space: dict[str, Any] = {}
    """What is searched: `{low, high, log, step}` is a range of a numeric setting; a list (or `{choices: …}`) is
    choices; labels with values are variants. Ranges and choices can have a `when`, like the file's own."""
    objectives: Any = None
    """Metrics to optimise (default: the monitored one), by name or as `{metric: maximize}`; several seek the Pareto
    front."""
    enqueue: list[dict[str, Any]] = []
    """Points to try first; the sampler chooses what a point leaves out."""
    target: Any = None
    """Value of the single objective; no new trial starts once one has reached it."""

    @property
    def tries_every_point(self) -> bool:
        """Whether the sampler is `grid`."""
        return bool(self._sampler_name == GRID_SAMPLER)

    @property
    def is_automatic(self) -> bool:
        """Whether the sampler is `auto`."""
        return bool(self._sampler_name == AUTO_SAMPLER)

    @property
    def chosen_pruner(self) -> Any:
        """The pruner as written, or the one that suits the sampler."""
        if self.pruner is not None:
            return self.pruner
        return _PAUSING if self.is_automatic else "none"

    @property
    def _sampler_name(self) -> Any:
        return self.sampler.get("name") if isinstance(self.sampler, dict) else self.sampler


def objectives(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return what a search can optimise: metrics of an epoch or the test, counts, and the time a trial takes.

    Args:
        metrics: those chosen in addition to loss and accuracy.
    """
    chosen = tuple(metrics)
    tested = (f"test_{logged_name(name)}" for name in chosen)
    return (*monitorable(chosen), "test_loss", "test_accuracy", *tested, *FACTS, "seconds")


@dataclass(frozen=True)
class Method:
    """A sampler or a pruner: its name, and options of Optuna's class."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_text(value)}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


@dataclass(frozen=True)
class Objective:
    """A metric of a finished trial, and its direction."""

    metric: str
    direction: Direction

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


@dataclass(frozen=True)
class Search:
    """How the space of a grid file is searched. The points in `enqueue` may lack dimensions."""

    sampler: Method
    pruner: Method
    objectives: tuple[Objective, ...]
    enqueue: tuple[Mapping[str, Any], ...] = ()
    target: float | None = None

    @property
    def tries_every_point(self) -> bool:
        """Whether each point of the space is tried once, which leaves nothing for a sampler to choose."""
        return self.sampler.name == GRID_SAMPLER

    @property
    def is_automatic(self) -> bool:
        """Whether lab's own model of the results chooses the points."""
        return self.sampler.name == AUTO_SAMPLER


def _text(value: Any) -> str:
    return as_text(tuple(value) if isinstance(value, list) else value)
