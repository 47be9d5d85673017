"""`Reading`: a grid file while it is read, with the faults found in it so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.config.dimension import frozen
from lab.config.grid import FILE_KEYS
from lab.config.kinds import field_kinds, takes_text
from lab.config.own import is_setting
from lab.config.trial import check_value
from lab.config.yaml import Document, KeyPath, composed
from lab.errors import ConfigError, Fault

__all__ = ["Reading", "brief", "takes_lists"]


class Reading:
    """A document, what overrides its values, and the faults found in it so far.

    Args:
        document: the grid file.
        overrides: settings, and values of `FILE_KEYS`, that replace those of the file.
    """

    def __init__(self, document: Document, overrides: Mapping[str, Any]) -> None:
        self.document = document
        self.setting_overrides = {key: value for key, value in overrides.items() if key not in FILE_KEYS}
        self.key_overrides = {key: value for key, value in overrides.items() if key in FILE_KEYS}
        self.faults: list[Fault] = []
        self.wrong: set[str] = set()  # settings with wrong values, and unknown names of settings
        self._faulty: set[KeyPath] = set()
        self._moved: dict[KeyPath, KeyPath] = {}

    def move(self, path: KeyPath, actual: KeyPath) -> None:
        """Note that what would be at `path` of a grid is at `actual`, within the file's search."""
        self._moved[path] = actual

    def place(self, path: KeyPath) -> KeyPath:
        """Return the place in the file of what would be at `path` of a grid."""
        return (*self._moved.get(path[:2], path[:2]), *path[2:])

    def line(self, path: KeyPath) -> int | None:
        """Return the line of `path` in the file."""
        return self.document.line(path)

    def fault(self, path: KeyPath, message: str) -> None:
        """Note that the value at `path` is wrong, whether the file or an override gives it."""
        self._faulty.add(self.place(path))
        set_by = next((key for key in self.key_overrides if _is_at(path, key)), None)
        if set_by is not None:
            self.option_fault(f"--set {set_by}", message)
        else:
            self.faults.append(self.document.fault(self.place(path), message))

    def has_fault(self, path: KeyPath) -> bool:
        """Return whether something at `path`, or within it, is known to be wrong."""
        return any(at[: len(path)] == path for at in self._faulty)

    def option_fault(self, option: str, message: str) -> None:
        """Note that an option of the command line is wrong."""
        self.faults.append(Fault(message, option))

    def stop_at_faults(self) -> None:
        """Raise all faults so far, in the order of their lines, if there are any.

        Raises:
            ConfigError: the faults.
        """
        if self.faults:
            raise ConfigError(sorted(self.faults, key=lambda fault: fault.line or 0))

    def value(self, path: KeyPath, name: str, raw: Any) -> Any:
        """Return the canonical form of a setting's value; a wrong one is noted and returned as it is."""
        if takes_text(name):
            raw = self.document.as_written(self.place(path), raw)
        try:
            return check_value(name, raw)
        except ConfigError as error:
            self.wrong.add(name)
            for fault in error.faults:
                self.fault(path, fault.message)
            return frozen(raw)

    def candidate(self, path: KeyPath, name: str, raw: Any) -> Any:
        """Return one candidate of a dimension: the value of a setting, or the label of a variant, which is text."""
        if is_setting(name):
            return self.value(path, name, raw)
        label = self.document.as_written(self.place(path), raw)
        return composed(label) if isinstance(label, str) else frozen(label)

    def any_of(self, path: KeyPath, key: str, raw: Any) -> tuple[Any, ...]:
        """Return the values of a condition; a flat list is one value of a setting that takes only lists."""
        single = not isinstance(raw, list) or (
            takes_lists(key) and not any(isinstance(value, list) for value in raw)
        )
        values = [(path, raw)] if single else [((*path, index), value) for index, value in enumerate(raw)]
        return tuple(self.candidate(place, key, value) for place, value in values)


def takes_lists(name: str) -> bool:
    """Return whether a setting takes nothing but lists."""
    return field_kinds(name) - {type(None)} == {tuple}


def brief(value: Any) -> str:
    """Return a value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _is_at(path: KeyPath, key: str) -> bool:
    parts = key.split(".")
    return list(path[: len(parts)]) == parts
