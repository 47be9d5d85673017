"""Reading the configuration of one trial from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import plugins
from lab.config.kinds import takes_text
from lab.config.plugin_files import load_plugins
from lab.config.trial import TrialConfig, parse_config
from lab.config.yaml import Document, read_yaml
from lab.errors import ConfigError, Fault

__all__ = ["load_config"]


def load_config(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, own: bool = True
) -> TrialConfig:
    """Return the config that a YAML file of settings gives, such as the `config.yaml` of a run.

    Args:
        path: the file.
        overrides: settings that replace those of the file.
        own: whether a person at this machine has written it: then the plug-ins that it names are loaded, which runs
            their code. Otherwise they must be loaded already.

    Raises:
        ConfigError: everything that is wrong, each fault with its line.
    """
    document = read_yaml(path)
    if not isinstance(document.value, dict):
        raise ConfigError(Fault("must hold settings, one `name: value` per line", file=str(path)))
    if not own:
        return _parse(document, overrides or {})
    with plugins.trusted(Path(path).parent):
        load_plugins(document)
        return _parse(document, overrides or {})


def _parse(document: Document, overrides: Mapping[str, Any]) -> TrialConfig:
    values = {
        name: document.as_written((name,), value) if takes_text(name) else value
        for name, value in document.value.items()
    }
    try:
        return parse_config({**values, **overrides})
    except ConfigError as error:
        raise ConfigError(
            [fault if fault.key in overrides else _in_file(fault, document) for fault in error.faults]
        ) from None


def _in_file(fault: Fault, document: Any) -> Fault:
    return Fault(fault.message, fault.key, document.file, document.line((fault.key,)))
