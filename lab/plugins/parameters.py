"""The parameters of what users define: which of them are settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.errors import ConfigError
from lab.registry import OWN_DATASET_OPTIONS, Parameter, Registry

__all__ = ["of_path", "options_of", "own_parameters"]

# What lab gives to each kind itself, by position or by these names.
_GIVEN: Final[Mapping[str, frozenset[str]]] = {
    "metric": frozenset({"num_classes", "validate_args"}),
    "optimizer": frozenset({"params", "lr"}),
}
# Of torch's optimizers: how they compute, not what.
_WAYS: Final = frozenset({"capturable", "differentiable", "foreach", "fused", "maximize"})


def options_of(kind: str, target: Any, options: Iterable[str]) -> tuple[str, ...]:
    """Return the settings of lab that a target takes: `options`, and a dataset's also those for its images."""
    is_source = hasattr(target, "describe") and hasattr(target, "load")  # which does everything itself
    more = OWN_DATASET_OPTIONS if kind == "dataset" and not is_source else ()
    return tuple(dict.fromkeys((*options, *more)))


def own_parameters(kind: str, name: str, target: Any, options: Iterable[str]) -> dict[str, Parameter]:
    """Return the settings of a target's own: its keyword-only parameters.

    Raises:
        ConfigError: one of them lacks its type.
    """
    found = {}
    for parameter in _signature(kind, name, target).parameters.values():
        given = parameter.name in options or parameter.name in _GIVEN.get(kind, ())
        if given or parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise ConfigError(
                f"{kind} '{name}': its parameter {parameter.name} needs a type, as in `{parameter.name}: float = 0.1`"
            )
        found[parameter.name] = _parameter(parameter)
    return found


def _signature(kind: str, name: str, target: Any) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except (ValueError, TypeError, NameError) as error:
        raise ConfigError(f"{kind} '{name}': its parameters cannot be read: {error}") from None


def _parameter(parameter: inspect.Parameter) -> Parameter:
    given = parameter.default is not inspect.Parameter.empty
    return Parameter(parameter.annotation, parameter.default if given else ...)


def of_path(known: Registry, path: str, target: Any) -> tuple[tuple[str, ...], dict[str, Parameter]]:
    """Return the settings of lab that a target takes, by the names that others of its kind have, and those of its own.

    An optimizer's are all its parameters, since torch's need not be given by keyword.
    """
    shared = set(known.options)
    if known.kind != "optimizer":
        names = _signature(known.kind, path, target).parameters
        taken = [
            name
            for name, each in names.items()
            if name in shared and each.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        options = options_of(known.kind, target, taken)
        return options, own_parameters(known.kind, path, target, options)
    found = {
        name: each
        for name, each in _signature(known.kind, path, target).parameters.items()
        if name not in _GIVEN[known.kind] | _WAYS
    }
    own = {
        name: _parameter(each)
        for name, each in found.items()
        if name not in shared
        and each.annotation is not inspect.Parameter.empty
        and each.default is not each.empty
    }
    return tuple(name for name in found if name in shared), own
