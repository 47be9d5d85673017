"""What worker processes share with the process that starts them: its folder, environment and registered names.

They do not run its script again, so it needs no main guard, and may come from standard input or a notebook.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from lab import registry
from lab.errors import ConfigError

__all__ = ["Surroundings", "add_names", "pickled_names"]

_pickle: Any = cloudpickle  # it is not typed


@dataclass(frozen=True)
class Surroundings:
    """The working directory, the environment, and the names that a program has added to the registry, pickled."""

    folder: str
    environment: dict[str, str]
    names: bytes

    @classmethod
    def here(cls) -> Surroundings:
        """Return those of this process.

        Raises:
            ConfigError: an object registered under a name cannot be sent to another process.
        """
        folder = ""
        with suppress(FileNotFoundError):  # it was deleted
            folder = str(Path.cwd())
        return cls(folder, dict(os.environ), pickled_names())

    def enter(self) -> None:
        """Give them to this process; an error about a name is raised as it is."""
        os.environ.clear()
        os.environ.update(self.environment)
        with suppress(OSError):  # deleted since
            os.chdir(self.folder)
        add_names(self.names)


def pickled_names() -> bytes:
    """Return the names that this program has registered, and what they stand for; a script's objects as a whole.

    Raises:
        ConfigError: one of these objects cannot be sent to another process.
    """
    added = registry.added()
    for addition in added:
        try:
            _pickle.dumps(addition)
        except Exception as error:  # whatever an object of the user's raises
            raise ConfigError(
                f"{addition.kind} '{addition.entry.name}' cannot be sent to worker processes: {error}. Define it in a "
                "separate module, and register it by its path, 'module:attribute'"
            ) from error
    pickled: bytes = _pickle.dumps(added)
    return pickled


def add_names(pickled: bytes) -> None:
    """Register the names in what `pickled_names` has returned; an error about one is raised as it is."""
    registry.add(_pickle.loads(pickled))
