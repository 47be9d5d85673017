"""Errors, worded so that the user knows what to do next.

Every error that a user can cause is a `LabError`, which the CLI prints without a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ConfigError",
    "DataError",
    "Fault",
    "LabError",
    "LabWarning",
    "MissingDataError",
    "OtherDataError",
    "OutOfMemoryError",
    "ResourceError",
    "StudyError",
    "TrackingError",
    "printable",
]


def printable(text: str) -> str:
    """Return `text` on one line, without control characters: a file name may contain anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class LabError(Exception):
    """A failure that is explained to the user; the process exits with `exit_code`."""

    exit_code = 1


class LabWarning(UserWarning):
    """Something the user should know, but that does not stop the work."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a configuration, and where it is."""

    message: str
    key: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        file = printable(self.file)
        place = f"{file}:{self.line}" if file and self.line else file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(LabError):
    """An invalid configuration or grid file; holds every fault found, not only the first."""

    exit_code = 2

    def __init__(self, faults: str | Fault | Sequence[Fault]) -> None:
        if isinstance(faults, str):
            faults = Fault(faults)
        self.faults = (faults,) if isinstance(faults, Fault) else tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class DataError(LabError):
    """A dataset that is missing, corrupt, or does not fit the configuration."""


class MissingDataError(DataError):
    """Data that is not on this machine."""


class OtherDataError(DataError):
    """Data that exists, but differs from what a trial was planned with."""


class ResourceError(LabError):
    """A machine that lacks what a trial needs: device memory, disk space or permissions."""


class OutOfMemoryError(ResourceError):
    """A device with too little free memory for a trial."""


class StudyError(LabError):
    """A study that does not exist or cannot be used."""


class TrackingError(LabError):
    """The tracking server refused a request or is unreachable; MLflow's errors leave tracking/ only in this form."""
