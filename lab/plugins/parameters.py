"""The parameters of what users define: which of them are settings."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from lab.errors import ConfigError
from lab.registry import OWN_DATASET_OPTIONS, Parameter, Registry

__all__ = ["is_plain", "of_path", "options_of", "own_parameters"]

# What lab gives to each kind itself, by position or by these names.
_GIVEN: Final[Mapping[str, frozenset[str]]] = {
    "metric": frozenset({"num_classes", "validate_args"}),
    "optimizer": frozenset({"params", "lr"}),
    "scheduler": frozenset({"optimizer", "last_epoch", "verbose"}),
}
# Kinds of which torch's own classes can be named by path: their parameters need not be keyword-only.
_BY_POSITION: Final = frozenset({"optimizer", "scheduler"})
_SCALARS: Final = (bool, int, float, str, type(None))
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
        signature = inspect.signature(target)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{kind} '{name}': its parameters cannot be read: {error}") from None
    module = sys.modules.get(getattr(target, "__module__", ""))
    names = {} if module is None else vars(module)
    return signature.replace(
        parameters=[
            each.replace(annotation=_evaluated(each.annotation, names))
            for each in signature.parameters.values()
        ]
    )


def _evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return a type that a module spells as text; the text, if it is imported for type checkers only."""
    if isinstance(annotation, str):
        with suppress(NameError, AttributeError, TypeError, SyntaxError):
            return eval(annotation, dict(names))
    return annotation


def _parameter(parameter: inspect.Parameter) -> Parameter:
    given = parameter.default is not inspect.Parameter.empty
    return Parameter(parameter.annotation, parameter.default if given else ...)


def of_path(known: Registry, path: str, target: Any) -> tuple[tuple[str, ...], dict[str, Parameter]]:
    """Return the settings of lab that a target takes, by the names that others of its kind have, and those of its own.

    Those of optimizers and schedulers are all their parameters of a plain type, since torch's need not be given by
    keyword.

    Raises:
        ConfigError: it has a parameter that must be given, and that no config can give.
    """
    shared = set(known.options)
    found = _signature(known.kind, path, target).parameters
    if known.kind not in _BY_POSITION:
        keywords = {name for name, each in found.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}
        options = options_of(known.kind, target, sorted(shared & keywords))
        return options, own_parameters(known.kind, path, target, options)
    left = {name: each for name, each in found.items() if name not in _GIVEN[known.kind] | _WAYS}
    own = {name: _parameter(each) for name, each in left.items() if name not in shared}
    for name, parameter in list(own.items()):
        if not is_plain(parameter.annotation):
            if parameter.default is ...:
                raise ConfigError(
                    f"{known.kind} '{path}' must be given {name}, which no config can hold: wrap it in a function of "
                    f"yours, registered with @lab.{known.kind}"
                )
            del own[name]
    return tuple(name for name in left if name in shared), own


def is_plain(annotation: Any) -> bool:
    """Return whether a type is one that YAML and a command line can give."""
    origin = get_origin(annotation)
    if origin is None:
        return annotation in _SCALARS
    arms = get_args(annotation)
    if origin is Literal:
        return all(type(arm) in _SCALARS for arm in arms)
    if origin is Annotated:
        return is_plain(arms[0])
    if origin is tuple:
        return all(arm is ... or is_plain(arm) for arm in arms)
    return origin in (Union, types.UnionType) and all(map(is_plain, arms))
