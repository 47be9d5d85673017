"""Which engine runs workers, and with which options: from `--on`, a profile in a file, and the command line."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.config import Document, parse_yaml, read_yaml
from lab.engines.engine_keys import ENGINES, Entry, checked, key_of, takes_only_text
from lab.errors import ConfigError, Fault
from lab.registry import suggest

__all__ = ["Profile", "find_profile", "profile_files"]

_HERE = Path("lab.yaml")


@dataclass(frozen=True)
class Profile:
    """An engine and its options.

    Args:
        name: as `--on` gives it.
        engine: `local`, `slurm` or `ray`.
        options: by key, checked and in the engine's own types.
        file: the file that it is in; empty if it is built in.
    """

    name: str = "local"
    engine: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""

    @property
    def is_cluster(self) -> bool:
        """Whether its workers may run on other machines."""
        return self.engine != "local" and self.options.get("cluster") != "local"


def profile_files() -> list[Path]:
    """Return the files that may hold profiles, the first of which wins."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [_HERE, home / "lab" / "engines.yaml"]


def find_profile(on: str | None, given: Mapping[str, Any] | None = None, job: Sequence[str] = ()) -> Profile:
    """Return the profile called `on` with what the command line gives in place of its own values.

    Files are read only if `on` is given: a profile may hold shell commands.

    Args:
        on: the name of a profile in one of `profile_files`, or of an engine; this machine if None.
        given: values of the command line by the names of their options; those that are None are not given.
        job: other options of the engine, as `KEY=VALUE`.

    Raises:
        ConfigError: no such profile, or options that are unknown, of the wrong type, or another engine's; each with
            its place in the file or its name on the command line.
        LabError: the engine's package is not installed.
    """
    name, engine, document = (on or "local"), on or "local", None
    if on is not None:
        document = _document_with(on)
        engine = _engine_of(on, document)
    entries = [] if document is None else _in_file(name, engine, document)
    entries += [
        _option(engine, option, value) for option, value in (given or {}).items() if value is not None
    ]
    entries += [_job_option(engine, text) for text in job]
    options = checked(engine, entries)
    if engine != "local" and "workers" not in options:
        raise ConfigError(
            f"--on {on} needs the maximum number of workers: --workers N, or `workers: N` in its profile"
        )
    return Profile(name, engine, options, "" if document is None else document.file)


def _document_with(name: str) -> Document | None:
    """Return the first file with a profile of this name; None if it is an engine's, and no file has it."""
    known = list(ENGINES)
    for file in profile_files():
        if not file.exists():
            continue
        document = read_yaml(file)
        if not isinstance(document.value, dict):
            raise ConfigError(
                Fault("must hold profiles, as in gpu: {engine: slurm, time: 4h}", file=str(file))
            )
        if name in document.value:
            return document
        known += [each for each in document.value if each not in known]
    if name in ENGINES:
        return None
    places = " or ".join(map(str, profile_files()))
    raise ConfigError(
        f"--on {name}: no such profile or engine.{suggest(name, known)} Known: {', '.join(known)}. "
        f"Profiles are in {places}"
    )


def _engine_of(name: str, document: Document | None) -> str:
    """Return the engine of a profile; one with an engine's name has that engine."""
    if document is None:
        return name
    profile = document.value[name]
    if not isinstance(profile, dict):
        raise ConfigError(document.fault((name,), "must be a mapping, as in {engine: slurm, time: 4h}"))
    engine = profile.get("engine", name if name in ENGINES else None)
    if engine is None:
        raise ConfigError(document.fault((name,), f"needs `engine`: one of {', '.join(ENGINES)}"))
    if engine not in ENGINES:
        known = f"{suggest(str(engine), ENGINES)} Known: {', '.join(ENGINES)}"
        raise ConfigError(document.fault((name, "engine"), f"unknown engine {str(engine)!r}.{known}"))
    if name in ENGINES and engine != name:
        message = f"the profile {name} is the engine {name}; give a profile of another engine another name"
        raise ConfigError(document.fault((name, "engine"), message))
    return str(engine)


def _in_file(name: str, engine: str, document: Document) -> list[Entry]:
    return [
        _entry_at((name, key), engine, value, document)
        for key, value in document.value[name].items()
        if key != "engine"
    ]


def _entry_at(path: tuple[str, str], engine: str, value: Any, document: Document) -> Entry:
    written = document.as_written(path, value)
    return Entry(key_of(engine, path[1]), value, written, functools.partial(document.fault, path))


def _option(engine: str, option: str, value: Any) -> Entry:
    label = f"--{option.replace('_', '-')}"
    return Entry(key_of(engine, option), value, str(value), lambda message: Fault(message, label), option)


def _job_option(engine: str, text: str) -> Entry:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals and value):
        raise ConfigError(f"--job takes KEY=VALUE, e.g. --job cpus_per_task=4, but got {text!r}")
    key, label = key.replace("-", "_"), f"--job {key}"

    def fault(message: str) -> Fault:
        return Fault(message, label)

    if engine != "local" and takes_only_text(engine, key) and not value.startswith("["):
        return Entry(key, value, value, fault, "job")
    try:
        document = parse_yaml(value)
    except ConfigError as error:
        raise ConfigError([fault(one.message) for one in error.faults]) from None
    return Entry(key, document.value, document.as_written((), document.value), fault, "job")
