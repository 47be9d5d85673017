"""The plug-ins that a file of settings names, which are loaded before its other keys are read."""

from __future__ import annotations

from typing import Any

from lab import plugins
from lab.config.own import look_up_paths
from lab.config.yaml import Document, KeyPath
from lab.errors import ConfigError

__all__ = ["load_plugins"]


def load_plugins(document: Document) -> None:
    """Load the plug-ins that `use`, or `base.use` of a grid file, names; see `plugins.trusted`.

    Raises:
        ConfigError: one cannot be loaded; gives its line.
    """
    for path in (("use",), ("base", "use")):
        names = _at(document.value, path)
        for name in [names] if isinstance(names, str) else names if isinstance(names, list) else []:
            if isinstance(name, str):
                _load(document, path, name)
    _look_up(document.value)


def _look_up(value: Any) -> None:
    """Look up the paths among the names anywhere in a file: in its base, its grid, variants, a search's choices."""
    if isinstance(value, dict):
        look_up_paths(value)
        for inner in value.values():
            _look_up(inner)


def _load(document: Document, path: KeyPath, name: str) -> None:
    try:
        plugins.use(name)
    except ConfigError as error:
        raise ConfigError([document.fault(path, fault.message) for fault in error.faults]) from error


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
