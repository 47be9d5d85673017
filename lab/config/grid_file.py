"""Reading grid files: every fault is found, and told with its line and key, before a `Grid` is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from lab.config.constraint import Constraint, parse_constraint
from lab.config.foreign import recognised
from lab.config.grid import FILE_KEYS, Budget, Grid, GridFile, Reported, ReportedEntry, Selection
from lab.config.presets import PRESETS
from lab.config.ranges import describes_values
from lab.config.search import Search, SearchFile, SearchPart
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
from lab.config.text import parse_value
from lab.config.trial import (
    TrialConfig,
    check_value,
    contradictions,
    doubtful,
    field_kinds,
    suggest_field,
    takes_text,
)
from lab.config.yaml import Document, KeyPath, composed, parse_yaml, read_yaml
from lab.errors import ConfigError, Fault, printable
from lab.registry import suggest

__all__ = ["check_files", "load_grid", "parse_grid"]

_MAX_REPEATS: Final = 10_000
_MOST_TRIED: Final = 1000  # cells, looking for values that contradict each other


def load_grid(
    path: str | Path, overrides: Mapping[str, Any] | None = None, only: Mapping[str, list[str]] | None = None
) -> Grid:
    """Read and check a grid file.

    Args:
        path: the file.
        overrides: config values over the file's base, such as `--set epochs=3`, and values of `FILE_KEYS`.
        only: dimensions and the texts of the values to keep, such as `--only net=lenet,conv3`.

    Raises:
        ConfigError: everything that is wrong with the file, each fault with its line and key.
    """
    return _Reader(read_yaml(path), Path(path).stem, overrides or {}, only or {}).read()


def parse_grid(text: str, file: str = "", overrides: Mapping[str, Any] | None = None) -> Grid:
    """Check a grid file given as text (as a study keeps it); see `load_grid`.

    Args:
        text: what the file holds.
        file: its name, for error messages and as the default of `name`.
        overrides: as of `load_grid`.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    return _Reader(parse_yaml(text, file), Path(file).stem or "grid", overrides or {}, {}).read()


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

    def __init__(
        self, document: Document, stem: str, overrides: Mapping[str, Any], only: Mapping[str, list[str]]
    ) -> None:
        self._document = document
        self._stem = stem
        self._overrides = {key: value for key, value in overrides.items() if key not in FILE_KEYS}
        self._file_overrides = {key: value for key, value in overrides.items() if key in FILE_KEYS}
        self._only_texts = only
        self._faults: list[Fault] = []
        self._wrong: set[str] = set()  # config fields, and names taken for them, whose values are wrong
        self._search = SearchPart(document.line, self._fault)

    def read(self) -> Grid:
        file = self._file()
        name = self._name(file)
        base = self._base(file)
        varied = self._grid(file)
        conditions = file.when
        if file.search is not None:
            varied |= self._searched(file.search, varied)
            conditions = self._search.with_conditions(file.when)
        when = {
            dim: {key: list(self._any_of(("when", dim, key), key, raw)) for key, raw in clauses.items()}
            for dim, clauses in conditions.items()
        }
        overrides = self._checked_overrides(varied, file)
        base = {**base, **overrides}
        varied.update(self._repeats(file, base, varied))
        constants = _constants(base)
        dimensions = dimensions_of(varied, conditions_of(when))
        self._structure(dimensions, when, constants)
        self._on_varied_preset(file, dimensions, base)
        exclude = self._exclude(file, dimensions, constants)
        only = self._only(dimensions, constants)
        reported = self._reported(file, dimensions, constants)
        constraints = self._constraints(file)
        search = self._chosen_by(file, dimensions, constants)
        if self._faults:
            doubted, cells = self._sound_cells(file, dimensions, varied, when, constants, exclude, only)
            self._report_contradictions(base, cells, dimensions, doubted)
        self._stop_at_faults()
        space = self._space(varied, when, constants)
        grid = Grid(
            name=name,
            description=file.description,
            file=self._document.file,
            base=base,
            space=space,
            exclude=exclude,
            only=only,
            constraints=constraints,
            budget=self._budget(file, space),
            max_retries=file.max_retries,
            gpu_memory=None if file.gpu_memory is None else int(file.gpu_memory),
            needs=(file.needs,) if isinstance(file.needs, str) else tuple(file.needs),
            report=file.report,
            reported=reported,
            search=search,
            overrides={**self._file_overrides, **overrides},
            text=self._document.text,
        )
        self._try_first_cell(grid)
        return grid

    def _chosen_by(
        self, file: GridFile, dimensions: tuple[Dimension, ...], constants: Mapping[str, Any]
    ) -> Search | None:
        """Return the search that chooses the cells, None where every combination is one."""
        if file.search is not None:
            search = self._search.read(file.search, dimensions, constants, self._candidate)
            self._search.check_rest(file, self._only_texts)
            return search
        if file.budget.epochs is not None and "search" not in self._document.value:
            self._fault(("budget", "epochs"), "is for a search; of a grid, give trials or seconds")
        return None

    def _space(
        self,
        varied: Mapping[str, Any],
        when: Mapping[str, Mapping[str, Any]],
        constants: Mapping[str, Any],
    ) -> Space:
        try:
            return Space(varied, when, constants)
        except ConfigError as error:
            path: KeyPath = ("when",)
            raise ConfigError([self._document.fault(path, fault.message) for fault in error.faults]) from None

    def _budget(self, file: GridFile, space: Space) -> Budget:
        if file.budget.trials is None and self._search.tries_every_point(file.search):
            return file.budget.model_copy(update={"trials": space.size})
        return file.budget

    def _fault(self, path: KeyPath, message: str) -> None:
        set_by = next((key for key in self._file_overrides if _is_at(path, key)), None)
        fault = self._document.fault(self._search.place(path), message)
        self._faults.append(Fault(message, f"--set {set_by}") if set_by else fault)

    def _stop_at_faults(self) -> None:
        if self._faults:
            raise ConfigError(sorted(self._faults, key=lambda fault: fault.line or 0))

    def _file(self) -> GridFile:
        """Return what the file says; a wrong key is reported and left out, so that the rest is checked."""
        raw = self._document.value
        foreign = (
            None if isinstance(raw, dict) and raw.keys() <= GridFile.model_fields.keys() else recognised(raw)
        )
        if foreign is not None:
            raise ConfigError(Fault(foreign, file=self._document.file))
        if not isinstance(raw, dict):
            self._fault(
                (), f"a grid file is a mapping with keys such as base and grid, but got {_brief(raw)}"
            )
            self._stop_at_faults()
        raw = {key: value for key, value in raw.items() if value is not None or key in ("epochs", "patience")}
        raw = self._with_overrides(raw)
        while True:
            try:
                return GridFile.model_validate(raw)
            except ValidationError as error:
                for detail in error.errors():
                    raw.pop(str(detail["loc"][0]), None)
                    self._fault(detail["loc"], _rule(detail))

    def _with_overrides(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the file under those that `--set` gives."""
        keys = dict(raw)
        for key, value in self._file_overrides.items():
            outer, _, inner = key.partition(".")
            if not inner:
                keys[outer] = value
            elif isinstance(keys.setdefault(outer, {}), dict):
                keys[outer] = {**keys[outer], inner: value}
        return keys

    def _name(self, file: GridFile) -> str:
        if file.name is not None:
            return file.name
        try:
            GridFile(name=self._stem)
        except ValidationError:
            rule = "will not do: a study's name has a-z, 0-9, _ and -, at most 100; give one here"
            self._fault(
                ("name",),
                f"the file's name '{printable(self._stem[:100])}' {rule}",
            )
        return self._stem

    def _value(self, path: KeyPath, name: str, raw: Any) -> Any:
        """Return the canonical form of a config value; a wrong one is reported and comes back as it is."""
        if takes_text(name):
            raw = self._document.as_written(self._search.place(path), raw)
        try:
            return check_value(name, raw)
        except ConfigError as error:
            self._wrong.add(name)
            for fault in error.faults:
                self._fault(path, fault.message)
            return frozen(raw)

    def _candidate(self, path: KeyPath, name: str, raw: Any) -> Any:
        """Return one candidate of a dimension: a config value, or the label of a variant, which is text."""
        if name in TrialConfig.model_fields:
            return self._value(path, name, raw)
        label = self._document.as_written(self._search.place(path), raw)
        return composed(label) if isinstance(label, str) else frozen(label)

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
        varied: dict[str, Any] = {}
        for name, raw in file.grid.items():
            if isinstance(raw, dict) and describes_values(raw):
                varied[name] = self._described(name, raw)
            else:
                varied[name] = (
                    self._variants(name, raw) if isinstance(raw, dict) else self._candidates(name, raw)
                )
        return varied

    def _described(self, name: str, raw: Mapping[str, Any]) -> list[Any]:
        """Report that a grid takes lists, and no range or choices as a search does; return the values, if any."""
        listed = next((value for value in raw.values() if isinstance(value, list)), None)
        if listed is None:
            message = (
                "a grid takes a list of values; a range belongs in search.space, as in {low: 0.01, high: 1}"
            )
        else:
            message = f"a grid takes the list of values itself, as in {name}: {_brief(listed)}"
        self._fault(("grid", name), message)
        self._wrong.add(name)
        return self._candidates(name, listed or [None]) if name not in TrialConfig.model_fields else [None]

    def _searched(self, search: SearchFile, grid: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the space of a search varies: ranges, candidates and variants by name."""
        varied: dict[str, Any] = {}
        for name, raw in search.space.items():
            choices = self._search.begin(name, raw, grid)
            if choices is None:
                every_point = self._search.tries_every_point(search)
                varied[name] = self._search.range(name, raw, every_point=every_point)
            else:
                varied[name] = (
                    self._variants(name, choices)
                    if isinstance(choices, dict)
                    else self._candidates(name, choices)
                )
        return varied

    def _candidates(self, name: str, raw: Any) -> list[Any]:
        if name not in TrialConfig.model_fields:
            self._wrong.add(name)
            message = f"unknown config field.{suggest_field(name)} Variants would be a mapping of labels"
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
        return tuple(self._candidate(place, key, value) for place, value in values)

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
            fault = self._document.fault(self._search.place(path), message)
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
    ) -> tuple[Selection, ...]:
        for index, entry in enumerate(file.exclude):
            if not entry:
                self._fault(("exclude", index), "is empty and would leave out every cell")
        return tuple(
            Selection(self._clauses(("exclude", index), entry, dimensions, constants))
            for index, entry in enumerate(file.exclude)
        )

    def _reported(
        self, file: GridFile, dimensions: tuple[Dimension, ...], constants: Mapping[str, Any]
    ) -> tuple[Reported, ...]:
        return tuple(
            Reported(
                self._clauses(("reported", index, "cells"), entry.cells, dimensions, constants),
                _accuracy(entry),
                entry.outcome,
                entry.note,
            )
            for index, entry in enumerate(file.reported)
        )

    def _only(self, dimensions: tuple[Dimension, ...], constants: Mapping[str, Any]) -> Selection | None:
        """Return the choice that `--only` makes among the values of dimensions."""
        known = {dimension.name for dimension in dimensions}
        clauses = []
        for key, texts in self._only_texts.items():
            place = f"--only {key}"
            if key not in known:
                message = f"no dimension of the grid.{suggest(key, known)} It has {', '.join(sorted(known))}"
                self._faults.append(Fault(message, place))
                continue
            values = tuple(_value_of(key, text) for text in texts)
            for message in check_clause(key, values, dimensions, constants):
                self._faults.append(Fault(message, place))
            clauses.append((key, values))
        return Selection(tuple(clauses)) if clauses else None

    def _clauses(
        self,
        place: KeyPath,
        entry: Mapping[str, Any],
        dimensions: tuple[Dimension, ...],
        constants: Mapping[str, Any],
    ) -> tuple[Clause, ...]:
        """Return keys and the values that each may have, once both are known to the grid."""
        clauses = []
        for key, raw in entry.items():
            path: KeyPath = (*place, key)
            known = len(self._faults)
            allowed = self._any_of(path, key, raw)
            if len(self._faults) == known:
                for message in check_clause(key, allowed, dimensions, constants):
                    self._fault(path, message)
            clauses.append((key, allowed))
        return tuple(clauses)

    def _constraints(self, file: GridFile) -> tuple[Constraint, ...]:
        constraints = []
        for index, text in enumerate(file.constraints):
            try:
                constraints.append(parse_constraint(text))
            except ConfigError as error:
                self._fault(("constraints", index), str(error))
        return tuple(constraints)

    def _try_first_cell(self, grid: Grid) -> None:
        """Report values that contradict each other, where they do in the first cell that is not excluded."""
        points = islice(grid.space, _MOST_TRIED)
        first: Point | None = next((point for point in points if grid.excluded(point) is None), None)
        if first is None or (grid.search is not None and _any_config(grid)):
            return
        try:
            grid.config(first)
        except ConfigError:
            tried = [first] if grid.search is not None else islice(grid.space, _MOST_TRIED)
            values = [grid.space.values(point) for point in tried if grid.excluded(point) is None]
            self._report_contradictions(grid.base, values, grid.space.dimensions, frozenset())
            self._stop_at_faults()

    def _sound_cells(
        self,
        file: GridFile,
        dimensions: tuple[Dimension, ...],
        varied: Mapping[str, Any],
        when: Mapping[str, Mapping[str, Any]],
        constants: Mapping[str, Any],
        exclude: tuple[Selection, ...],
        only: Selection | None,
    ) -> tuple[frozenset[str], list[dict[str, Any]]]:
        """Return which fields are in doubt in a file with faults, and the values of cells to be looked at in spite of
        them: all of them, or only what they share where it is unknown which cells there are."""
        doubted = doubtful(self._wrong)
        unknown = any(fault.key.startswith(("exclude", "when", "--only")) for fault in self._faults)
        if file.search is None and not unknown:
            with suppress(ConfigError):
                grid = Grid("", "", "", {}, Space(varied, when, constants), exclude, only)
                points = islice(grid.space, _MOST_TRIED)
                return doubted, [grid.space.values(point) for point in points if not grid.excluded(point)]
        return doubted | {name for dim in dimensions for name in dim.fields}, [{}]

    def _report_contradictions(
        self,
        base: Mapping[str, Any],
        cells: Iterable[Mapping[str, Any]],
        dimensions: Sequence[Dimension],
        doubted: frozenset[str],
    ) -> None:
        """Report how the values of the `cells` over `base` contradict each other, the same but once."""
        setters = {name: dim.name for dim in dimensions for name in dim.fields}
        found = dict.fromkeys(
            fault for values in cells for fault in contradictions({**base, **values}, doubted)
        )
        for fault in found:
            if fault.key in self._overrides:
                self._faults.append(Fault(fault.message, f"--set {fault.key}"))
                continue
            setter = setters.get(fault.key)
            self._fault(("grid", setter) if setter else ("base", fault.key), fault.message)


def _is_at(path: KeyPath, key: str) -> bool:
    parts = key.split(".")
    return list(path[: len(parts)]) == parts


def _constants(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every field where nothing varies it: the base's, its preset's or the default."""
    preset = base.get("preset")
    bundle = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    defaults = {name: info.default for name, info in TrialConfig.model_fields.items()}
    return {**defaults, **{name: frozen(value) for name, value in bundle.items()}, **base}


def _any_config(grid: Grid) -> bool:
    """Return whether any of a search's first corners makes a config; it need not be the first one."""
    for point in islice(grid.space, 100):
        with suppress(ConfigError):
            grid.config(point)
            return True
    return False


def _accuracy(entry: ReportedEntry) -> float | tuple[float, float] | None:
    value = entry.test_accuracy
    return (value[0], value[-1]) if isinstance(value, list) else value


def _value_of(key: str, text: str) -> Any:
    """Return what a text of `--only` means: a config value, or the label of a variant."""
    return check_value(key, parse_value(key, text)) if key in TrialConfig.model_fields else composed(text)


def _takes_lists(name: str) -> bool:
    return field_kinds(name) - {type(None)} == {tuple}


def _rule(detail: Any) -> str:
    """Return pydantic's message about a key of the file in our words."""
    if detail["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {
            "budget": Budget,
            "reported": ReportedEntry,
            "search": SearchFile,
        }
        known = parts.get(str(detail["loc"][0]), GridFile).model_fields
        name = str(detail["loc"][-1])
        if len(detail["loc"]) == 1 and name in TrialConfig.model_fields:
            return "is a setting: put its value under `base`, or a list of values under `grid`"
        if len(detail["loc"]) == 1 and name in SearchFile.model_fields:
            return f"belongs under `search`, as in search: {{{name}: …}}"
        return f"unknown key.{suggest(name, known)} Known: {', '.join(known)}"
    if detail["type"].startswith("byte_size"):
        return f"must be an amount of memory such as 6GB, but got {_brief(detail['input'])}"
    rule = str(detail["msg"])
    for theirs, ours in (
        ("Input should be", "must be"),
        ("String should", "must"),
        ("a valid dictionary or instance of Budget", "a mapping"),
        ("a valid dictionary", "a mapping"),
        ("a valid string", "text"),
        ("Value error, ", ""),
    ):
        rule = rule.replace(theirs, ours)
    scalar = detail["type"] == "string_type" and not isinstance(detail["input"], list | dict)
    return f"{rule}, but got {_brief(detail['input'])}" + ("; put it in quotes" if scalar else "")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
