"""Whether the packages are installed that a config needs besides lab's own requirements."""

from __future__ import annotations

from lab import extras
from lab.config.own import NAMING, names_in
from lab.config.trial import TrialConfig

__all__ = ["check_installed"]


def check_installed(config: TrialConfig) -> None:
    """Check that every package is installed that what `config` names needs; imports none.

    Raises:
        LabError: one is missing; says what needs it, and how to install it.
    """
    for setting, known in NAMING.items():
        for name in names_in(getattr(config, setting)):
            extra = known[name].extra
            if extra:
                extras.check(extra, extra, f"The {known.kind} {name}")
