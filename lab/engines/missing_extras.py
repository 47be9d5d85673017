"""submitit, imported when it is needed."""

from __future__ import annotations

from typing import Any

from lab.extras import require

__all__ = ["submitit_slurm"]


def submitit_slurm() -> Any:
    """Return submitit's Slurm module.

    Raises:
        LabError: submitit is not installed.
    """
    return require("submitit.slurm.slurm", "slurm", "Slurm")
