"""How a search proceeds: its sampler, pruner, objectives, first points and target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lab import registry
from lab.config.dimension import Dimension, token
from lab.config.grid import GridFile
from lab.config.kinds import as_text
from lab.config.metrics import rises
from lab.config.reading.dimensions import Outline
from lab.config.reading.document import Reading
from lab.config.search import GRID_SAMPLER, Method, Objective, Search, SearchFile, objectives
from lab.config.yaml import KeyPath
from lab.registry import suggest

__all__ = ["read_search"]

_FOLDS: Final = (
    "varies fold; a search would come to prefer the fold whose images are easiest. Give one fold, and repeat the best"
    f" points on all in a grid, or use the sampler {GRID_SAMPLER}"
)


def read_search(reading: Reading, file: GridFile, outline: Outline, only: Mapping[str, Any]) -> Search | None:
    """Return the search that chooses the cells, as far as it is valid; None if every combination is a cell.

    Args:
        reading: of the file.
        file: its keys.
        outline: of the whole space.
        only: what `--only` selects, which is for grids.
    """
    if file.search is None:
        if file.budget.epochs is not None and reading.document.value.get("search") is None:
            reading.fault(("budget", "epochs"), "is for a search; for a grid, give trials or seconds")
        return None
    if not outline.dimensions:
        reading.fault(("search",), "has nothing to choose from; give it a `space`")
    for dim in outline.dimensions:
        for name in {"monitor", "mode"} & set(dim.fields):
            path = reading.place(("grid", dim.name))
            reading.fault(path, f"varies {name}; a search compares its trials by one metric")
        if "fold" in dim.fields and not file.search.tries_every_point:
            reading.fault(reading.place(("grid", dim.name)), _FOLDS)
    compared = _objectives(reading, file.search, outline.constants)
    search = Search(
        _method(reading, "sampler", file.search.sampler),
        _method(reading, "pruner", file.search.chosen_pruner),
        compared,
        tuple(
            _enqueued(reading, index, point, outline.dimensions)
            for index, point in enumerate(file.search.enqueue)
        ),
        _target(reading, file.search.target, compared),
    )
    _check_rest(reading, file, file.search, outline, only)
    return search


def _check_rest(
    reading: Reading, file: GridFile, search: SearchFile, outline: Outline, only: Mapping[str, Any]
) -> None:
    """Report what in the rest of the file is incompatible with a search."""
    finite = search.is_automatic and all(dim.range is None for dim in outline.dimensions)
    # a budget that is wrong is reported as such, and left out of `file`
    if (
        file.budget.trials is None
        and not reading.has_fault(("budget",))
        and not (search.tries_every_point or finite)
    ):
        reading.fault(("budget",), "a search needs budget.trials, the number of points to try")
    if file.repeats != 1:
        reading.fault(("repeats",), "a search tries each point once; repeat the best ones in a grid")
    if only:
        reading.fault(
            ("search",), "--only selects cells of a grid; the cells of a search are chosen by its sampler"
        )


def _method(reading: Reading, kind: str, raw: Any) -> Method:
    """Return a sampler or a pruner; study/ checks whether Optuna has it."""
    path: KeyPath = ("search", kind)
    if isinstance(raw, str):
        return Method(raw)
    if not isinstance(raw, dict):
        reading.fault(path, f"must be a name, or a mapping of a name and options, but got {raw!r}")
        return Method("")
    name = raw.get("name")
    if not isinstance(name, str):
        reading.fault(path, "needs a name, as in {name: tpe, seed: 1}")
        return Method("")
    return Method(name, {key: value for key, value in raw.items() if key != "name"})


def _objectives(reading: Reading, file: SearchFile, constants: Mapping[str, Any]) -> tuple[Objective, ...]:
    monitor, mode, chosen = str(constants["monitor"]), constants["mode"], constants["metrics"]
    # wrong metrics are reported with the base, so any of those there are may be meant here
    metrics = tuple(registry.metrics) if "metrics" in reading.wrong else chosen
    up = rises(monitor, metrics) is not False if mode == "auto" else mode == "max"
    monitored = Objective(monitor, "maximize" if up else "minimize")
    if file.objectives is None:
        return (monitored,)
    path: KeyPath = ("search", "objectives")
    found = [
        objective
        for place, metric, direction in _listed(reading, path, file.objectives)
        if (objective := _objective(reading, place, metric, direction, monitored, metrics)) is not None
    ]
    names = [objective.metric for objective in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reading.fault(path, f"names {name} twice")
    if len(found) == 1 and found[0].metric != monitored.metric:
        message = f"a single objective must be the monitored metric, here {monitored.metric}; set base.monitor instead"
        reading.fault(path, message)
    return tuple(found)


def _listed(reading: Reading, path: KeyPath, raw: Any) -> list[tuple[KeyPath, Any, Any]]:
    """Return place, metric and direction (None if not given) of each objective."""
    if isinstance(raw, str | dict):
        raw = [raw] if isinstance(raw, str) else [{key: value} for key, value in raw.items()]
        places: list[KeyPath] = [path] * len(raw)
    elif isinstance(raw, list) and raw:
        places = [(*path, index) for index in range(len(raw))]
    else:
        reading.fault(path, f"must be a list of metrics, but got {raw!r}")
        return []
    found: list[tuple[KeyPath, Any, Any]] = []
    for place, entry in zip(places, raw, strict=True):
        if isinstance(entry, dict):
            found += [((*place, key), key, direction) for key, direction in entry.items()]
        else:
            found.append((place, entry, None))
    return found


def _objective(
    reading: Reading,
    path: KeyPath,
    metric: Any,
    direction: Any,
    monitored: Objective,
    metrics: tuple[str, ...],
) -> Objective | None:
    if metric not in objectives(metrics):
        reading.fault(path, _unknown(str(metric), metrics))
        return None
    if direction not in (None, "maximize", "minimize"):
        reading.fault(path, f"must be maximize or minimize, but got {direction!r}")
        return None
    if metric == monitored.metric:
        if direction not in (None, monitored.direction):
            message = (
                f"the direction of the monitored metric is {monitored.direction}, which follows from `mode`"
            )
            reading.fault(path, message)
        return monitored
    up = rises(str(metric), metrics)
    if up is None and direction is None and metric not in objectives(()):
        reading.fault(
            path, f"does not say whether higher is better; give its direction, as in {{{metric}: maximize}}"
        )
    return Objective(str(metric), direction or ("maximize" if up else "minimize"))


def _unknown(metric: str, chosen: tuple[str, ...]) -> str:
    """Return what is wrong with an objective that no trial has."""
    missing = next((name for name in registry.metrics if metric in objectives([name])), None)
    if missing is not None:
        return f"{metric} is only computed with metrics: [{', '.join(sorted([*chosen, missing]))}] in `base`"
    near = suggest(metric, objectives({*chosen, *registry.metrics}))
    return f"unknown objective '{metric[:80]}'.{near} Known: {', '.join(objectives(chosen))}"


def _enqueued(
    reading: Reading, index: int, point: Mapping[str, Any], dimensions: Sequence[Dimension]
) -> dict[str, Any]:
    by_name = {dim.name: dim for dim in dimensions}
    found: dict[str, Any] = {}
    for name, raw in point.items():
        path: KeyPath = ("search", "enqueue", index, name)
        dimension = by_name.get(name)
        if dimension is None:
            known = f"{suggest(name, by_name)} It varies {', '.join(by_name)}"
            reading.fault(path, f"the search does not vary '{name}'.{known}")
            continue
        value = reading.candidate(path, name, raw)
        if reading.has_fault(reading.place(("grid", name))):
            found[name] = value  # what it may be is not known
        elif dimension.range is not None:
            if not dimension.range.holds(value):
                reading.fault(path, f"{_text(value)} is not in the range {dimension.range}")
            whole = isinstance(dimension.range.low, int)
            found[name] = float(value) if isinstance(value, int) and not whole else value
        elif token(value) not in dimension.positions:
            listed = ", ".join(as_text(candidate) for candidate in dimension.candidates)
            reading.fault(path, f"{_text(value)} is none of {listed}")
        else:
            found[name] = value
    return found


def _target(reading: Reading, raw: Any, objectives: Sequence[Objective]) -> float | None:
    if raw is None:
        return None
    path: KeyPath = ("search", "target")
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        reading.fault(path, f"must be a number, but got {raw!r}")
        return None
    if len(objectives) > 1:
        reading.fault(path, "is for a single objective; several have no best value")
    return float(raw)


def _text(value: Any) -> str:
    return as_text(tuple(value) if isinstance(value, list) else value)
