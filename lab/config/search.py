"""The `search:` of a grid file: a sampler chooses points of a space, and a pruner ends those that promise little.

An example::

    search:
      sampler: tpe                          # or {name: tpe, seed: 1, n_startup_trials: 20}: Optuna's own options;
                                            # `grid` tries every point once, and needs no budget
      pruner: {name: median, n_warmup_steps: 2}
      space:
        lr: {low: 0.0001, high: 0.1, log: true}              # a range of a config field
        batch_size: {low: 32, high: 256, step: 32}
        optimizer: [adam, sgd]                               # choices
        momentum: {low: 0.0, high: 0.99, when: {optimizer: sgd}}
        net: {plain: {activation: relu}, bn: {norm: batch}}  # variants, as in `grid`
      objectives: [val_accuracy]            # default: the monitored metric; of several, the Pareto front is sought
      enqueue: [{lr: 0.01, optimizer: adam}]                 # tried first
      target: 0.98                          # no trial starts once one has reached it
    budget: {trials: 50, seconds: 600, epochs: 500}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from lab.config.constraint import FACTS
from lab.config.foreign import MEANT_BY
from lab.config.ranges import Range, describes_values, read_range
from lab.config.space import Dimension, token
from lab.config.trial import METRICS, TrialConfig, as_text
from lab.config.yaml import KeyPath
from lab.registry import suggest

if TYPE_CHECKING:
    from lab.config.grid import GridFile

__all__ = ["GRID_SAMPLER", "OBJECTIVES", "Method", "Objective", "Search", "SearchFile", "SearchPart"]

#: What a search can optimise: what an epoch logs, what is counted, what a trial takes.
OBJECTIVES: Final = (*METRICS, "test_loss", "test_accuracy", *FACTS, "seconds")

#: The sampler that tries every point of a finite space once, in its order.
GRID_SAMPLER: Final = "grid"

Direction = Literal["maximize", "minimize"]


class SearchFile(BaseModel):
    """The keys of `search:`, as they stand in the file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    sampler: Any = "tpe"
    """What chooses the points, by Optuna's name, or a mapping of its name and Optuna's own options."""
    pruner: Any = "none"
    """What ends trials that promise little, given like the sampler."""
    space: dict[str, Any] = {}
    """What is searched: ranges, choices and variants."""
    objectives: Any = None
    """Metrics to optimise (default: the monitored one), by name or as {metric: maximize or minimize}."""
    enqueue: list[dict[str, Any]] = []
    """Points to try first; what one leaves out is chosen by the sampler."""
    target: Any = None
    """Value of the single objective at which the search ends."""


@dataclass(frozen=True)
class Method:
    """A sampler or a pruner: its name, and options of its class in Optuna."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_text(value)}" for key, value in self.options.items())
        return f"{self.name} ({options})" if options else self.name


@dataclass(frozen=True)
class Objective:
    """A metric of a finished trial, and which end of it is best."""

    metric: str
    direction: Direction

    def __str__(self) -> str:
        return f"{self.direction} {self.metric}"


@dataclass(frozen=True)
class Search:
    """How a grid file's space is searched. `enqueue` holds points, of which dimensions may be missing."""

    sampler: Method
    pruner: Method
    objectives: tuple[Objective, ...]
    enqueue: tuple[Mapping[str, Any], ...] = ()
    target: float | None = None

    @property
    def tries_every_point(self) -> bool:
        """Whether nothing is left to a sampler: each point of the space is tried once."""
        return self.sampler.name == GRID_SAMPLER


class SearchPart:
    """Reads the search of a grid file.

    Args:
        line: the line of a place in the file.
        fault: takes what is wrong, and where.
    """

    def __init__(self, line: Callable[[KeyPath], int | None], fault: Callable[[KeyPath, str], None]) -> None:
        self._line = line
        self._fault = fault
        self._places: dict[str, KeyPath] = {}  # of the candidates of what the space varies
        self._conditions: dict[str, dict[str, Any]] = {}

    def place(self, path: KeyPath) -> KeyPath:
        """Return where in the file something is that would be at `path` if `grid` and `when` held it."""
        if len(path) < 2 or not isinstance(path[1], str):
            return path
        if path[0] == "grid" and path[1] in self._places:
            return (*self._places[path[1]], *path[2:])
        if path[0] == "when" and path[1] in self._conditions:
            return ("search", "space", path[1], *path[0:1], *path[2:])
        return path

    def begin(self, name: str, raw: Any, grid: Mapping[str, Any]) -> Any:
        """Return the candidates or the variants of `name` in the search's space, None if it is a range."""
        path: KeyPath = ("search", "space", name)
        if name in grid:
            self._fault(
                path, f"the grid varies {name} too (line {self._line(('grid', name))}); keep one of them"
            )
        self._places[name] = path
        if not isinstance(raw, dict):
            return raw
        if name not in TrialConfig.model_fields and not describes_values(raw):
            return raw  # variants
        self._take_condition(name, raw, path)
        listed = next((key for key in raw if MEANT_BY.get(key) == "choices"), "")
        if isinstance(raw.get(listed), list) and "choices" not in raw:
            self._fault(
                (*path, listed), f"choices are a list itself, as in {name}: [a, b], or {{choices: [a, b]}}"
            )
            self._places[name] = (*path, listed)
            return raw[listed]
        if "choices" in raw:
            self._places[name] = (*path, "choices")
            for key in raw.keys() - {"choices", "when"}:
                self._fault(
                    (*path, key),
                    f"unknown key.{suggest(key, ('choices', 'when'))} Choices take choices and when",
                )
            return raw["choices"]
        if name not in TrialConfig.model_fields:
            return []  # which says that there is no such field
        return None

    def range(self, name: str, raw: Mapping[str, Any], *, every_point: bool) -> Range | list[Any]:
        """Return the range of a config field, or all its numbers where `every_point` is to be tried.

        One that is wrong is reported, and stands as a nameless choice.
        """
        found, problems = read_range(name, raw)
        if found is not None and every_point and (values := found.values()) is None:
            problems = [
                ("", f"the sampler {GRID_SAMPLER} tries every point: give {name} a step, or list its values")
            ]
        for key, message in problems:
            self._fault(("search", "space", name, *([key] if key else [])), message)
        if found is None or problems:
            return [None]
        return list(values or ()) if every_point else found

    def with_conditions(self, when: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the conditions of the whole file: those of `when`, and those within the search's space."""
        for name in when.keys() & self._conditions.keys():
            self._fault(("search", "space", name, "when"), f"`when` has {name} too; keep one of them")
        return {**when, **self._conditions}

    def read(
        self,
        file: SearchFile,
        dimensions: Sequence[Dimension],
        constants: Mapping[str, Any],
        check: Callable[[KeyPath, str, Any], Any],
    ) -> Search:
        """Return the search, as far as it is right.

        Args:
            file: its keys.
            dimensions: of the whole space.
            constants: the values of config fields that do not vary.
            check: returns the canonical form of a config value or a label, and reports one that is wrong.
        """
        if not dimensions:
            self._fault(("search",), "has nothing to choose; give it a `space`")
        for dim in dimensions:
            for name in {"monitor", "mode"} & set(dim.fields):
                self._fault(self.place(("grid", dim.name)), f"varies {name}; a search compares by one metric")
        objectives = self._objectives(file, constants)
        return Search(
            self._method("sampler", file.sampler),
            self._method("pruner", file.pruner),
            objectives,
            tuple(
                self._enqueued(index, point, dimensions, check) for index, point in enumerate(file.enqueue)
            ),
            self._target(file.target, objectives),
        )

    @staticmethod
    def tries_every_point(search: SearchFile | None) -> bool:
        """Return whether the sampler is `grid`."""
        sampler = None if search is None else search.sampler
        return (sampler.get("name") if isinstance(sampler, dict) else sampler) == GRID_SAMPLER

    def check_rest(self, file: GridFile, only: Mapping[str, Any]) -> None:
        """Report what in the rest of the file does not go with a search."""
        if file.budget.trials is None and not self.tries_every_point(file.search):
            self._fault(("budget",), "a search needs budget.trials: how many points it tries")
        if file.repeats != 1:
            self._fault(("repeats",), "a search tries each point once; repeat its best in a grid")
        if only:
            self._fault(("search",), "--only chooses cells of a grid; a search chooses for itself")

    def _take_condition(self, name: str, raw: Mapping[str, Any], path: KeyPath) -> None:
        if "when" not in raw:
            return
        condition = raw["when"]
        if not isinstance(condition, dict):
            self._fault(
                (*path, "when"), f"must be a mapping, as in {{optimizer: sgd}}, but got {condition!r}"
            )
        else:
            self._conditions[name] = condition

    def _method(self, kind: str, raw: Any) -> Method:
        """Return a sampler or a pruner; whether Optuna has it is known in study/."""
        path: KeyPath = ("search", kind)
        if isinstance(raw, str):
            return Method(raw)
        if not isinstance(raw, dict):
            self._fault(path, f"must be a name, or a mapping of name and options, but got {raw!r}")
            return Method("")
        name = raw.get("name")
        if not isinstance(name, str):
            self._fault(path, "needs a name, as in {name: tpe, seed: 1}")
            return Method("")
        return Method(name, {key: value for key, value in raw.items() if key != "name"})

    def _objectives(self, file: SearchFile, constants: Mapping[str, Any]) -> tuple[Objective, ...]:
        monitor, mode = constants["monitor"], constants["mode"]
        rises = str(monitor).endswith("accuracy") if mode == "auto" else mode == "max"
        monitored = Objective(str(monitor), "maximize" if rises else "minimize")
        if file.objectives is None:
            return (monitored,)
        path: KeyPath = ("search", "objectives")
        found = [
            objective
            for place, metric, direction in self._listed(path, file.objectives)
            if (objective := self._objective(place, metric, direction, monitored)) is not None
        ]
        names = [objective.metric for objective in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._fault(path, f"names {name} twice")
        if len(found) == 1 and found[0].metric != monitored.metric:
            message = f"a single objective is the monitored metric, here {monitored.metric}; set base.monitor instead"
            self._fault(path, message)
        return tuple(found)

    def _listed(self, path: KeyPath, raw: Any) -> list[tuple[KeyPath, Any, Any]]:
        """Return place, metric and direction (None if not given) of each objective."""
        if isinstance(raw, str | dict):
            raw = [raw] if isinstance(raw, str) else [{key: value} for key, value in raw.items()]
            places: list[KeyPath] = [path] * len(raw)
        elif isinstance(raw, list) and raw:
            places = [(*path, index) for index in range(len(raw))]
        else:
            self._fault(path, f"must be a list of metrics, but got {raw!r}")
            return []
        found: list[tuple[KeyPath, Any, Any]] = []
        for place, entry in zip(places, raw, strict=True):
            if isinstance(entry, dict):
                found += [
                    ((*place, key) if len(place) > 2 else (*path, key), key, way)
                    for key, way in entry.items()
                ]
            else:
                found.append((place, entry, None))
        return found

    def _objective(
        self, path: KeyPath, metric: Any, direction: Any, monitored: Objective
    ) -> Objective | None:
        if metric not in OBJECTIVES:
            known = f"{suggest(str(metric), OBJECTIVES)} Known: {', '.join(OBJECTIVES)}"
            self._fault(path, f"unknown objective '{str(metric)[:80]}'.{known}")
            return None
        if direction not in (None, "maximize", "minimize"):
            self._fault(path, f"must be maximize or minimize, but got {direction!r}")
            return None
        if metric == monitored.metric:
            if direction not in (None, monitored.direction):
                self._fault(
                    path, f"the monitored metric is best when you {monitored.direction} it; `mode` says so"
                )
            return monitored
        rises = str(metric).endswith("accuracy")
        return Objective(str(metric), direction or ("maximize" if rises else "minimize"))

    def _enqueued(
        self,
        index: int,
        point: Mapping[str, Any],
        dimensions: Sequence[Dimension],
        check: Callable[[KeyPath, str, Any], Any],
    ) -> dict[str, Any]:
        by_name = {dim.name: dim for dim in dimensions}
        found: dict[str, Any] = {}
        for name, raw in point.items():
            path: KeyPath = ("search", "enqueue", index, name)
            dimension = by_name.get(name)
            if dimension is None:
                known = f"{suggest(name, by_name)} It varies {', '.join(by_name)}"
                self._fault(path, f"the search does not vary '{name}'.{known}")
                continue
            value = check(path, name, raw)
            if dimension.range is not None:
                if not dimension.range.holds(value):
                    self._fault(path, f"{_text(value)} is not in the range {dimension.range}")
                whole = isinstance(dimension.range.low, int)
                found[name] = float(value) if isinstance(value, int) and not whole else value
            elif token(value) not in dimension.positions:
                listed = ", ".join(as_text(candidate) for candidate in dimension.candidates)
                self._fault(path, f"{_text(value)} is none of {listed}")
            else:
                found[name] = value
        return found

    def _target(self, raw: Any, objectives: Sequence[Objective]) -> float | None:
        if raw is None:
            return None
        path: KeyPath = ("search", "target")
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            self._fault(path, f"must be a number, but got {raw!r}")
            return None
        if len(objectives) > 1:
            self._fault(path, "is for one objective; of several there is no best value")
        return float(raw)


def _text(value: Any) -> str:
    return as_text(tuple(value) if isinstance(value, list) else value)
