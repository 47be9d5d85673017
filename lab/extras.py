"""Packages of lab's extras, imported when they are needed; each says how to install it if it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from lab.errors import LabError

__all__ = ["check", "require"]


def require(module: str, extra: str, why: str) -> Any:
    """Return a module of an extra.

    Args:
        module: its name.
        extra: lab's extra that installs it.
        why: what needs it, at the beginning of the message.

    Raises:
        LabError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise _missing(package, extra, why) from None


def check(module: str, extra: str, why: str) -> None:
    """Check that a module of an extra is installed, without importing it; see `require`.

    Raises:
        LabError: it is not installed.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, why)


def _missing(package: str, extra: str, why: str) -> LabError:
    return LabError(f"{why} needs {package}, which is not installed here: pip install 'lab[{extra}]'")
