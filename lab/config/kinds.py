"""Settings by name: the types that each takes, its values as text, and what else it is called."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from lab import registry
from lab.config.own import field_of, setting_names

__all__ = ["also_called", "as_text", "doubtful", "field_kinds", "near_field", "suggest_field", "takes_text"]

# what other tools and papers call our settings
_ALSO_CALLED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("learning_rate", "learningrate", "learning-rate", "eta"), "lr"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("model", "arch", "network"), "architecture"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "patience"),
}


def also_called(name: str) -> str | None:
    """Return the setting that other tools and papers call `name`, or None."""
    return _ALSO_CALLED.get(name)


def near_field(name: str) -> str | None:
    """Return the setting that an unknown `name` probably means, or None."""
    return also_called(name) or registry.nearest(name, setting_names())


def suggest_field(name: str) -> str:
    """Return `" Did you mean 'lr'?"` for the setting that `name` probably means, or an empty string."""
    near = near_field(name)
    return f" Did you mean '{near}'?" if near else ""


def doubtful(wrong: Iterable[str]) -> frozenset[str]:
    """Return the settings whose values are unknown if keys are `wrong`: these, and what they probably mean."""
    names = list(wrong)
    return frozenset([*names, *filter(None, map(near_field, names))])


def field_kinds(name: str) -> frozenset[type]:
    """Return which of int, float, bool, str, tuple, NoneType a setting takes; nothing for an unknown name."""
    return _field_kinds(name, registry.version())


def takes_text(name: str) -> bool:
    """Return whether a setting takes only text or lists of text, so that `001` or `no` cannot mean anything else."""
    return _takes_text(name, registry.version())


@functools.lru_cache(maxsize=1024)
def _field_kinds(name: str, _version: int) -> frozenset[type]:
    field = field_of(name)
    return frozenset() if field is None else frozenset(_kinds(field.annotation))


@functools.lru_cache(maxsize=1024)
def _takes_text(name: str, _version: int) -> bool:
    field = field_of(name)
    return field is not None and _scalar_kinds(field.annotation) <= {str, type(None)}


def _scalar_kinds(annotation: Any) -> set[type]:
    """Return the types that a setting takes, and for a tuple those of its items."""
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        return _kinds(annotation)
    arms = get_args(annotation)
    return set().union(*map(_scalar_kinds, arms[:1] if origin in (tuple, Annotated) else arms))


def _kinds(annotation: Any) -> set[type]:
    origin = get_origin(annotation)
    if origin is None:
        return {annotation}
    if origin is tuple:
        return {tuple}
    arms = get_args(annotation)
    if origin is Literal:
        return {type(arm) for arm in arms}
    if origin is Annotated:
        return _kinds(arms[0])
    return set().union(*(_kinds(arm) for arm in arms))


def as_text(value: Any) -> str:
    """Return a value as the text of its param: `6,16`, `true`, `0.001`; `none` for None and for an empty list."""
    if isinstance(value, tuple):
        return ",".join(as_text(item) for item in value) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
