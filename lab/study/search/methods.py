"""The samplers and pruners of searches: Optuna's, by name and with Optuna's options, checked before use."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from lab.config import AUTO_SAMPLER, GRID_SAMPLER, Grid, Method, parse_yaml
from lab.errors import ConfigError
from lab.registry import suggest
from lab.study.search.rungs import RungsPruner

__all__ = ["PRUNERS", "SAMPLERS", "Kind", "build_pruner", "build_sampler", "check_search"]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
    "dict[str, Any]": (dict,),
}
_WRAPPED: Final = "wrapped_pruner"  # of `patient`: another pruner, given like this one


@dataclass(frozen=True)
class Kind:
    """A sampler or a pruner: Optuna's class, and the options that a file can give it.

    Attributes:
        target: the class.
        options: the types of each option.
        needed: options without a default.
        package: what the class imports besides Optuna.
    """

    target: Any
    options: Mapping[str, tuple[type, ...]]
    needed: tuple[str, ...] = ()
    package: str = ""


def _annotation(parameter: inspect.Parameter) -> str:
    """Return the type of a parameter as written in its module."""
    return str(getattr(parameter.annotation, "__name__", parameter.annotation))


def _kind(target: Any, package: str = "") -> Kind:
    """Return a kind with the options of the class's signature that are plain values, which a file can hold."""
    options: dict[str, tuple[type, ...]] = {}
    needed = []
    for parameter in inspect.signature(target).parameters.values():
        parts = [part.strip(" '\"") for part in _annotation(parameter).split("|")]
        known = [part for part in parts if part in _TYPES]
        if parameter.name == _WRAPPED:
            options[parameter.name] = (str, dict, type(None))
        elif [part for part in known if part != "None"] and len(known) == len(parts):
            options[parameter.name] = tuple(kind for part in known for kind in _TYPES[part])
            if parameter.default is parameter.empty:
                needed.append(parameter.name)
    return Kind(target, options, tuple(needed), package)


SAMPLERS: Final[Mapping[str, Kind]] = {
    # a draft gets its point when it is claimed, before any sampler is asked (see `surrogate`)
    AUTO_SAMPLER: _kind(optuna.samplers.RandomSampler),
    # every draft gets its point when it is queued, so nothing is left to choose
    GRID_SAMPLER: Kind(optuna.samplers.RandomSampler, {}),
    "random": _kind(optuna.samplers.RandomSampler),
    "tpe": _kind(optuna.samplers.TPESampler),
    "gp": _kind(optuna.samplers.GPSampler),
    "cmaes": _kind(optuna.samplers.CmaEsSampler, "cmaes"),
    "qmc": _kind(optuna.samplers.QMCSampler),
    "nsga2": _kind(optuna.samplers.NSGAIISampler),
}

PRUNERS: Final[Mapping[str, Kind]] = {
    "none": Kind(optuna.pruners.NopPruner, {}),
    "median": _kind(optuna.pruners.MedianPruner),
    "percentile": _kind(optuna.pruners.PercentilePruner),
    "hyperband": _kind(optuna.pruners.HyperbandPruner),
    "successive_halving": _kind(optuna.pruners.SuccessiveHalvingPruner),
    "patient": _kind(optuna.pruners.PatientPruner),
    "rungs": _kind(RungsPruner),
}


def check_search(grid: Grid) -> None:
    """Check that Optuna has a search's sampler and pruner, and accepts their options and their combination.

    Raises:
        ConfigError: everything that is wrong, each with its line.
    """
    search = grid.search
    if search is None:
        return
    problems = _problems("sampler", SAMPLERS, search.sampler) or _building("sampler", search.sampler)
    problems += _problems("pruner", PRUNERS, search.pruner) or _building("pruner", search.pruner)
    if len(search.objectives) > 1:
        if search.pruner.name != "none" and not search.is_automatic:  # whose pruner nobody asked for
            problems.append(
                (("pruner",), "a search with several objectives cannot prune; leave out the pruner")
            )
        if search.is_automatic:
            problems.append((("sampler",), "auto takes one objective; for several, use nsga2, tpe or gp"))
        if search.sampler.name == "cmaes":
            problems.append((("sampler",), "cmaes takes one objective; for several, use nsga2, tpe or gp"))
    if problems:
        document = parse_yaml(grid.text, grid.file)
        raise ConfigError([document.fault(("search", *path), message) for path, message in problems])


def build_sampler(method: Method, trial: int) -> BaseSampler:
    """Return the sampler that chooses the parameters of the trial with number `trial`.

    Each trial has its own sampler, because all that samplers learn is in the study. A `seed` gives each its own
    sequence: with a common one, every worker and every resumed sweep would choose the same points again.
    """
    options = dict(method.options)
    known = inspect.signature(SAMPLERS[method.name].target).parameters
    seed = options.get("seed")
    own = None if seed is None else int(np.random.SeedSequence([abs(seed), trial]).generate_state(1)[0])
    if (
        method.name == "qmc"
    ):  # one sequence for all, its position kept in the study; its first points are random
        options |= {"seed": seed or 0, "independent_sampler": optuna.samplers.RandomSampler(own)}
    elif seed is not None:
        options["seed"] = own
    for name in ("warn_independent_sampling", "warn_asynchronous_seeding"):
        if name in known and method.name != "tpe":  # conditions are intended; tpe's option is deprecated
            options.setdefault(name, False)
    return _quietly(SAMPLERS[method.name].target, options)  # type: ignore[no-any-return]


def build_pruner(method: Method) -> BasePruner:
    """Return a pruner, which has no state of its own."""
    options = dict(method.options)
    if options.get(_WRAPPED) is not None:
        options[_WRAPPED] = build_pruner(_wrapped(options[_WRAPPED]))
    elif method.name == "patient":
        options[_WRAPPED] = None  # which prunes by patience alone
    return _quietly(PRUNERS[method.name].target, options)  # type: ignore[no-any-return]


Problem = tuple[tuple[str, ...], str]


def _problems(place: str, kinds: Mapping[str, Kind], method: Method) -> list[Problem]:
    """Return what is wrong with the name of a sampler or a pruner and its options."""
    if method.name not in kinds:
        near = suggest(method.name.lower().removesuffix("sampler").removesuffix("pruner"), kinds)
        what = "pruner" if kinds is PRUNERS else "sampler"
        return [((place,), f"Unknown {what} '{method.name[:80]}'.{near} Known: {', '.join(sorted(kinds))}")]
    kind = kinds[method.name]
    problems: list[Problem] = [
        ((place,), f"{method.name} needs {name}") for name in kind.needed if name not in method.options
    ]
    for name, value in method.options.items():
        if name not in kind.options:
            known = f"{suggest(name, kind.options)} It takes {', '.join(kind.options) or 'none'}"
            problems.append(((place, name), f"{method.name} has no such option.{known}"))
        elif not _fits(value, kind.options[name]):
            problems.append(((place, name), f"must be {_listed(kind.options[name])}, but got {value!r}"))
        elif name == _WRAPPED and value is not None:
            wrapped = _wrapped(value)
            inner = _problems(place, PRUNERS, wrapped)
            problems += [((place, name, *path[1:]), message) for path, message in inner]
    return problems


def _building(place: str, method: Method) -> list[Problem]:
    """Return why Optuna refuses options that have the right types."""
    package = SAMPLERS[method.name].package if place == "sampler" else ""
    if package and importlib.util.find_spec(package) is None:
        return [((place,), f"{method.name} needs a package that is not installed: pip install {package}")]
    try:
        if place == "sampler":
            build_sampler(method, 0)
        else:
            build_pruner(method)
    except (TypeError, ValueError, AssertionError) as error:
        named = difflib.get_close_matches(str(error).split(" ")[0].strip("`'"), list(method.options), n=1)
        return [
            ((place, *named), " ".join(str(error).split()) or "Optuna refuses this combination of options")
        ]
    return []


def _quietly(target: Any, options: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return target(**options)


def _wrapped(raw: Any) -> Method:
    if isinstance(raw, str):
        return Method(raw)
    return Method(str(raw.get("name", "")), {key: value for key, value in raw.items() if key != "name"})


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds)


def _listed(kinds: tuple[type, ...]) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    wider = [kind for kind in kinds if kind is not int or float not in kinds]
    return " or ".join(words.get(kind, "none") for kind in dict.fromkeys(wider))
