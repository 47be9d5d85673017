"""Grid files: a base configuration and what varies over it, read from YAML and checked in full.

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
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.config.constraint import Constraint, parse_constraint
from lab.config.presets import PRESETS
from lab.config.space import (
    Clause,
    Dimension,
    Point,
    Space,
    check_clause,
    conditions_of,
    dimensions_of,
    find_problems,
    frozen,
    token,
)
from lab.config.trial import TrialConfig, as_text, check_value, field_kinds, parse_config
from lab.config.yaml import Document, KeyPath, parse_yaml, read_yaml
from lab.errors import ConfigError, Fault
from lab.registry import suggest

__all__ = ["Budget", "Exclusion", "Grid", "GridFile", "check_files", "load_grid", "parse_grid"]

_STRICT: Final = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)
_MAX_REPEATS: Final = 10_000
_MAX_LABEL: Final = 250  # MLflow's run names


class Budget(BaseModel):
    """Where a study ends before its grid does."""

    model_config = _STRICT

    trials: Annotated[int, Field(ge=1)] | None = None
    """Most cells to run, in order."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """No trial starts after so much wall-clock time."""


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


@dataclass(frozen=True)
class Exclusion:
    """A combination that is left out: keys, and the values of which each must have one."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{key}={'|'.join(as_text(value) for value in allowed)}" for key, allowed in self.clauses
        )

    def matches(self, space: Space, point: Mapping[str, Any]) -> bool:
        """Return whether `point` has one of the values of every key; an inactive dimension has none."""
        return all(_has(space, point, key, allowed) for key, allowed in self.clauses)


@dataclass(frozen=True)
class Grid:
    """A grid file that has been checked: what every cell shares, and the space of cells."""

    name: str
    description: str
    file: str
    base: Mapping[str, Any]
    space: Space
    exclude: tuple[Exclusion, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = field(default_factory=Budget)
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
        """Return why `exclude` leaves `point` out, or None if it does not."""
        for exclusion in self.exclude:
            if exclusion.matches(self.space, point):
                return f"excluded: {exclusion}"
        return None

    def label(self, point: Mapping[str, Any]) -> str:
        """Return a short name for a cell: `relu lr=0.01 adam depth=2`; of a single cell, the grid's name."""
        parts = []
        for name, value in point.items():
            text = as_text(value)
            bare = isinstance(value, str) and text not in self._ambiguous
            parts.append(text if bare else f"{name}={text}")
        label = " ".join(parts) or self.name
        return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"

    @cached_property
    def _ambiguous(self) -> frozenset[str]:
        texts = Counter(
            value for dim in self.space.dimensions for value in dim.candidates if isinstance(value, str)
        )
        return frozenset({"none", *(text for text, count in texts.items() if count > 1)})


def load_grid(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Grid:
    """Read and check a grid file.

    Args:
        path: the file.
        overrides: config values over the file's base, such as `--set epochs=3`.

    Raises:
        ConfigError: everything that is wrong with the file, each fault with its line and key.
    """
    return _Reader(read_yaml(path), Path(path).stem, overrides or {}).read()


def parse_grid(text: str, file: str = "", overrides: Mapping[str, Any] | None = None) -> Grid:
    """Check a grid file given as text (as a study keeps it); see `load_grid`.

    Args:
        text: what the file holds.
        file: its name, for error messages and as the default of `name`.
        overrides: config values over its base.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    return _Reader(parse_yaml(text, file), Path(file).stem or "grid", overrides or {}).read()


def check_files(paths: Iterable[str | Path]) -> list[Grid]:
    """Read and check several grid files.

    Raises:
        ConfigError: everything that is wrong with any of them.
    """
    grids: list[Grid] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            grids.append(load_grid(path))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return grids


class _Reader:
    """Reads one document into a `Grid`, collecting faults on the way."""

    def __init__(self, document: Document, stem: str, overrides: Mapping[str, Any]) -> None:
        self._document = document
        self._stem = stem
        self._overrides = overrides
        self._faults: list[Fault] = []

    def read(self) -> Grid:
        file = self._file()
        name = self._name(file)
        base = self._base(file)
        varied = self._grid(file)
        when = {
            dim: {key: list(self._any_of(("when", dim, key), key, raw)) for key, raw in clauses.items()}
            for dim, clauses in file.when.items()
        }
        overrides = self._checked_overrides(varied, file)
        base = {**base, **overrides}
        varied.update(self._repeats(file, base, varied))
        constants = _constants(base)
        dimensions = dimensions_of(varied, conditions_of(when))
        self._structure(dimensions, when, constants)
        self._on_varied_preset(file, dimensions, base)
        exclude = self._exclude(file, dimensions, constants)
        constraints = self._constraints(file)
        self._stop_at_faults()
        try:
            space = Space(varied, when, constants)
        except ConfigError as error:
            path: KeyPath = ("when",)
            raise ConfigError([self._document.fault(path, fault.message) for fault in error.faults]) from None
        grid = Grid(
            name=name,
            description=file.description,
            file=self._document.file,
            base=base,
            space=space,
            exclude=exclude,
            constraints=constraints,
            budget=file.budget,
            overrides=overrides,
            text=self._document.text,
        )
        self._try_first_cell(grid)
        return grid

    def _fault(self, path: KeyPath, message: str) -> None:
        self._faults.append(self._document.fault(path, message))

    def _stop_at_faults(self) -> None:
        if self._faults:
            raise ConfigError(sorted(self._faults, key=lambda fault: fault.line or 0))

    def _file(self) -> GridFile:
        """Return what the file says; a wrong key is reported and left out, so that the rest is checked."""
        raw = self._document.value
        if not isinstance(raw, dict):
            self._fault(
                (), f"a grid file is a mapping with keys such as base and grid, but got {_brief(raw)}"
            )
            self._stop_at_faults()
        raw = {key: value for key, value in raw.items() if value is not None or key in ("epochs", "patience")}
        while True:
            try:
                return GridFile.model_validate(raw)
            except ValidationError as error:
                for detail in error.errors():
                    raw.pop(str(detail["loc"][0]), None)
                    self._fault(detail["loc"], _rule(detail))

    def _name(self, file: GridFile) -> str:
        if file.name is not None:
            return file.name
        try:
            GridFile(name=self._stem)
        except ValidationError:
            rule = "a study's name has a-z, 0-9, _ and -, at most 100"
            self._fault(("name",), f"the file's name '{self._stem[:100]}' will not do: {rule}; give one here")
        return self._stem

    def _value(self, path: KeyPath, name: str, raw: Any) -> Any:
        """Return the canonical form of a config value; a wrong one is reported and comes back as it is."""
        try:
            return check_value(name, raw)
        except ConfigError as error:
            for fault in error.faults:
                self._fault(path, fault.message)
            return frozen(raw)

    def _base(self, file: GridFile) -> dict[str, Any]:
        base = {name: self._value(("base", name), name, raw) for name, raw in file.base.items()}
        for name in ("epochs", "patience"):
            if name not in file.model_fields_set:
                continue
            if name in base:
                line = self._document.line(("base", name))
                self._fault((name,), f"base gives {name} too (line {line}); keep one of them")
            base[name] = self._value((name,), name, getattr(file, name))
        return base

    def _grid(self, file: GridFile) -> dict[str, Any]:
        return {
            name: self._variants(name, raw) if isinstance(raw, dict) else self._candidates(name, raw)
            for name, raw in file.grid.items()
        }

    def _candidates(self, name: str, raw: Any) -> list[Any]:
        if name not in TrialConfig.model_fields:
            known = TrialConfig.model_fields
            message = f"unknown config field.{suggest(name, known)} Variants would be a mapping of labels"
            self._fault(("grid", name), message)
            return [frozen(value) for value in raw] if isinstance(raw, list) and raw else [None]
        if raw is None:
            return []
        if not isinstance(raw, list):
            return [self._value(("grid", name), name, raw)]
        if _takes_lists(name) and any(isinstance(value, int | float) for value in raw):
            message = (
                f"each candidate is itself a list, as in {name}: [[6, 16], [8, 32]], but got {_brief(raw)}"
            )
            self._fault(("grid", name), message)
            return [frozen(value) for value in raw]
        return [self._value(("grid", name, index), name, value) for index, value in enumerate(raw)]

    def _variants(self, name: str, raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        path: KeyPath = ("grid", name)
        if name in TrialConfig.model_fields:
            self._fault(
                path, "is a config field and takes a list of values; variants need a name of their own"
            )
        elif not name or len(name) > 100 or not name.replace("-", "_").isidentifier():
            self._fault(path, "a name for variants is letters, digits, _ and -, and begins with no digit")
        return {label: self._bundle((*path, label), label, bundle) for label, bundle in raw.items()}

    def _bundle(self, path: KeyPath, label: str, raw: Any) -> dict[str, Any]:
        if not label.strip() or len(label) > 100 or not label.isprintable():
            self._fault(path, "a label is 1 to 100 printable letters")
        if raw is not None and not isinstance(raw, dict):
            self._fault(path, f"must be a mapping of config values, but got {_brief(raw)}")
            return {"?": label}  # unlike any other, so that it is no duplicate as well
        return {name: self._value((*path, name), name, value) for name, value in (raw or {}).items()}

    def _any_of(self, path: KeyPath, key: str, raw: Any) -> tuple[Any, ...]:
        """Return the values of a condition; a flat list is one value of a field that takes only lists."""
        single = not isinstance(raw, list) or (
            _takes_lists(key) and not any(isinstance(value, list) for value in raw)
        )
        values = [(path, raw)] if single else [((*path, index), value) for index, value in enumerate(raw)]
        if key not in TrialConfig.model_fields:
            return tuple(frozen(value) for _, value in values)
        return tuple(self._value(place, key, value) for place, value in values)

    def _checked_overrides(self, varied: Mapping[str, Any], file: GridFile) -> dict[str, Any]:
        overrides: dict[str, Any] = {}
        setters = {name: dim.name for dim in dimensions_of(varied, {}) for name in dim.fields}
        if isinstance(file.repeats, list):
            setters["seed"] = "repeats"
        for name, raw in self._overrides.items():
            if name in setters:
                by = "the grid" if setters[name] == name else f"'{setters[name]}'"
                message = f"{by} varies {name}; take it out of the file or leave out --set {name}"
                self._faults.append(Fault(message, f"--set {name}"))
                continue
            try:
                overrides[name] = check_value(name, raw)
            except ConfigError as error:
                self._faults += [Fault(fault.message, f"--set {name}") for fault in error.faults]
        return overrides

    def _repeats(self, file: GridFile, base: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dimension of the seeds: the last, so that a cell's repeats stand together."""
        seeds = self._seeds(file.repeats, base.get("seed", 0))
        if seeds is None:
            return {}
        setters = {name: dim.name for dim in dimensions_of(varied, {}) for name in dim.fields}
        if "seed" in setters:
            self._fault(("repeats",), f"'{setters['seed']}' sets the seed already; keep one of them")
            return {}
        return {"seed": seeds}

    def _seeds(self, repeats: Any, first: Any) -> list[Any] | None:
        path: KeyPath = ("repeats",)
        if isinstance(repeats, list) and repeats:
            seeds = [self._value((*path, index), "seed", seed) for index, seed in enumerate(repeats)]
            distinct: dict[Any, Any] = {}
            for index, seed in enumerate(seeds):
                if distinct.setdefault(token(seed), index) != index:
                    self._fault((*path, index), f"the seed {_brief(seed)} is listed twice")
            return [seeds[index] for index in distinct.values()]
        if type(repeats) is not int or not 1 <= repeats <= _MAX_REPEATS:
            rule = f"must be a number from 1 to {_MAX_REPEATS:,} or a list of seeds"
            self._fault(path, f"{rule}, but got {_brief(repeats)}")
            return None
        if repeats == 1 or type(first) is not int:
            return None
        self._value(path, "seed", first + repeats - 1)
        return list(range(first, first + repeats))

    def _structure(
        self,
        dimensions: tuple[Dimension, ...],
        when: Mapping[str, Mapping[str, Any]],
        constants: Mapping[str, Any],
    ) -> None:
        places = {
            fault.key for fault in self._faults
        }  # a value that is wrong in itself need not match as well
        for path, message in find_problems(dimensions, conditions_of(when), constants):
            fault = self._document.fault(path, message)
            if not any(place.startswith(fault.key) and path[0] == "when" for place in places):
                self._faults.append(fault)

    def _on_varied_preset(
        self, file: GridFile, dimensions: tuple[Dimension, ...], base: Mapping[str, Any]
    ) -> None:
        """Report conditions on a value that a varied preset would bring: they would compare the default."""
        varied = {name for dim in dimensions for name in dim.fields}
        if "preset" not in varied:
            return
        brought = {name for preset in PRESETS.values() for name in preset} - varied - set(base)
        places: Iterator[KeyPath] = (
            ("when", dim, key) for dim, clauses in file.when.items() for key in clauses
        )
        for path in [
            *places,
            *(("exclude", i, key) for i, entry in enumerate(file.exclude) for key in entry),
        ]:
            if path[-1] in brought:
                self._fault(path, f"{path[-1]} depends on the preset, which varies; name the preset instead")

    def _exclude(
        self, file: GridFile, dimensions: tuple[Dimension, ...], constants: Mapping[str, Any]
    ) -> tuple[Exclusion, ...]:
        exclusions = []
        for index, entry in enumerate(file.exclude):
            if not entry:
                self._fault(("exclude", index), "is empty and would leave out every cell")
            clauses = []
            for key, raw in entry.items():
                path: KeyPath = ("exclude", index, key)
                known = len(self._faults)
                allowed = self._any_of(path, key, raw)
                if len(self._faults) == known:
                    for message in check_clause(key, allowed, dimensions, constants):
                        self._fault(path, message)
                clauses.append((key, allowed))
            exclusions.append(Exclusion(tuple(clauses)))
        return tuple(exclusions)

    def _constraints(self, file: GridFile) -> tuple[Constraint, ...]:
        constraints = []
        for index, text in enumerate(file.constraints):
            try:
                constraints.append(parse_constraint(text))
            except ConfigError as error:
                self._fault(("constraints", index), str(error))
        return tuple(constraints)

    def _try_first_cell(self, grid: Grid) -> None:
        """Report values that contradict each other in the first cell that is not excluded."""
        points = islice(grid.space, 1000)
        first: Point | None = next((point for point in points if grid.excluded(point) is None), None)
        if first is None:
            return
        setters = {name: dim.name for dim in grid.space.dimensions for name in dim.fields}
        try:
            grid.config(first)
        except ConfigError as error:
            for fault in error.faults:
                if fault.key in grid.overrides:
                    self._faults.append(Fault(fault.message, f"--set {fault.key}"))
                    continue
                setter = setters.get(fault.key)
                path = ("grid", setter) if setter else ("base", fault.key)
                self._fault(path, fault.message)
            self._stop_at_faults()


def _constants(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every field where nothing varies it: the base's, its preset's or the default."""
    preset = base.get("preset")
    bundle = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    defaults = {name: info.default for name, info in TrialConfig.model_fields.items()}
    return {**defaults, **{name: frozen(value) for name, value in bundle.items()}, **base}


def _has(space: Space, point: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> bool:
    try:
        seen = token(space.seen(key, point))
    except KeyError:
        return False
    return any(token(value) == seen for value in allowed)


def _takes_lists(name: str) -> bool:
    return field_kinds(name) - {type(None)} == {tuple}


def _rule(detail: Any) -> str:
    """Return pydantic's message about a key of the file in our words."""
    if detail["type"] == "extra_forbidden":
        known = Budget.model_fields if detail["loc"][0] == "budget" else GridFile.model_fields
        return f"unknown key.{suggest(str(detail['loc'][-1]), known)} Known: {', '.join(known)}"
    rule = str(detail["msg"])
    for theirs, ours in (
        ("Input should be", "must be"),
        ("String should", "must"),
        ("a valid dictionary or instance of Budget", "a mapping"),
        ("a valid dictionary", "a mapping"),
        ("a valid string", "text"),
    ):
        rule = rule.replace(theirs, ours)
    return f"{rule}, but got {_brief(detail['input'])}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
