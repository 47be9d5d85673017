"""Checks which versions are installed."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from lab.upkeep.finding import Finding, Verdict

__all__ = ["check_versions"]

_PACKAGES = ("lab", "torch", "torchvision", "mlflow", "optuna")


def check_versions() -> Iterator[Finding]:
    """Check the versions of the packages that determine a trial's results and records."""
    found = {name: _version(name) for name in _PACKAGES}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    missing = [name for name, number in found.items() if number is None and name != "lab"]
    verdict = Verdict.FAILED if missing else Verdict.OK
    mend = f"pip install -c constraints.txt {' '.join(missing)}" if missing else ""
    yield Finding("versions", verdict, f"{text}, Python {platform.python_version()}", mend)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # lab itself may be run from a folder without being installed
        return None
